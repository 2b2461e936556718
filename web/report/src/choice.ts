/** Which places are shown and which one is picked: what the map and the table agree on. */

import type { Columns } from "./data";

export interface Filter {
  classes: Set<number>;
  low: number;
  high: number;
  text: string;
}

type Listener = () => void;

export class Choice {
  /** The row picked, -1 for none. */
  picked = -1;
  /** The area that was not analysed and is looked at, -1 for none; never while a row is picked. */
  gap = -1;
  /** The rows that pass the filter, in the order of the data. */
  shown: number[];
  private readonly onFilter: Listener[] = [];
  private readonly onPick: ((from: string) => void)[] = [];
  private readonly words: string[];

  constructor(private readonly columns: Columns) {
    this.shown = columns.id.map((_, row) => row);
    this.words = columns.id.map((id, row) =>
      [id, columns.source_id?.[row] ?? "", columns.flags?.[row] ?? ""].join("\n").toLowerCase(),
    );
  }

  filtered(listener: Listener): void {
    this.onFilter.push(listener);
  }

  chosen(listener: (from: string) => void): void {
    this.onPick.push(listener);
  }

  apply(filter: Filter): void {
    const { damage_class: codes, damage_score: scores } = this.columns;
    const text = filter.text.trim().toLowerCase();
    const every = filter.low <= 0 && filter.high >= 1;
    this.shown = codes.flatMap((code, row) => {
      if (!filter.classes.has(code)) return [];
      if (text && !this.words[row]?.includes(text)) return [];
      if (every) return [row];
      const score = scores?.[row];
      return typeof score === "number" && score >= filter.low && score <= filter.high ? [row] : [];
    });
    for (const listener of this.onFilter) listener();
    if (this.picked >= 0 && !this.shown.includes(this.picked)) this.pick(-1, "filter");
  }

  pick(row: number, from: string, gap = -1): void {
    this.picked = row;
    this.gap = row < 0 ? gap : -1;
    for (const listener of this.onPick) listener(from);
  }
}
