/** The table: only the rows in sight are in the page, so that thousands scroll like ten. */

import type { Choice } from "./choice";
import type { Columns, Data } from "./data";
import { byId, decimals, figure, make } from "./page";

const ROW = 34;
const SPARE = 8;

interface Column {
  name: keyof Columns;
  title: string;
  hint: string;
  width: number;
  /** Digits behind the point; none for text. */
  digits?: number;
}

const COLUMNS: Column[] = [
  { name: "damage_class", title: "Class", hint: "Damage class", width: 122 },
  { name: "damage_score", title: "Score", hint: "Mean damage probability", width: 82, digits: 2 },
  { name: "area_m2", title: "Area m²", hint: "Area in square metres", width: 76, digits: 0 },
  { name: "id", title: "Id", hint: "Identifier", width: 150 },
  { name: "p_none", title: "None", hint: "Probability: no damage", width: 64, digits: 2 },
  { name: "p_minor", title: "Minor", hint: "Probability: minor damage", width: 66, digits: 2 },
  { name: "p_major", title: "Major", hint: "Probability: major damage", width: 66, digits: 2 },
  { name: "p_destroyed", title: "Destr.", hint: "Probability: destroyed", width: 68, digits: 2 },
  { name: "valid_frac", title: "Seen", hint: "Share that was analysed", width: 62, digits: 2 },
  { name: "flags", title: "Flags", hint: "Flags", width: 150 },
];

export function startTable(data: Data, choice: Choice): void {
  const table = new Table(data, choice, byId("rows"));
  choice.filtered(() => table.refill());
  choice.chosen((from) => table.follow(from));
}

class Table {
  private readonly columns: Column[];
  private readonly names: Map<number, string>;
  private readonly body = make("tbody");
  private readonly heads = new Map<Column, HTMLTableCellElement>();
  private readonly table = make("table");
  private sorted: { column: Column; up: boolean } | null = null;
  private order: number[] = [];
  private drawn = "";

  constructor(
    private readonly data: Data,
    private readonly choice: Choice,
    private readonly frame: HTMLElement,
  ) {
    this.names = new Map(data.legend.map((entry) => [entry.code, entry.name]));
    this.columns = COLUMNS.filter((column) => data.columns[column.name]);
    this.table.setAttribute("aria-label", `Table of ${data.kind}`);
    const widths = make("colgroup");
    for (const column of this.columns) {
      const col = make("col");
      col.style.width = `${column.width}px`;
      widths.append(col);
    }
    this.table.style.minWidth = `${this.columns.reduce((sum, c) => sum + c.width, 0)}px`;
    this.table.append(widths, this.head(), this.body);
    frame.append(this.table);
    frame.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(frame);
    this.body.addEventListener("click", (event) => {
      const row = (event.target as Element).closest("tr")?.dataset.row;
      if (row !== undefined) choice.pick(Number(row), "table");
    });
    this.body.addEventListener("keydown", (event) => this.key(event));
  }

  refill(): void {
    this.order = [...this.choice.shown];
    if (this.sorted) {
      const { column, up } = this.sorted;
      const values = this.data.columns[column.name] as (string | number | null)[];
      const turn = up ? 1 : -1;
      this.order.sort((a, b) => turn * compare(values[a], values[b], turn) || a - b);
    }
    this.table.setAttribute("aria-rowcount", String(this.order.length + 1));
    this.drawn = "";
    this.draw();
  }

  /** Bring the picked row into sight. */
  follow(from: string): void {
    const at = this.order.indexOf(this.choice.picked);
    if (at >= 0 && from !== "table") {
      const top = at * ROW;
      const room = this.frame.clientHeight - ROW;
      const { scrollTop } = this.frame;
      if (top < scrollTop || top + ROW > scrollTop + room)
        this.frame.scrollTop = Math.max(0, top - room / 2);
    }
    this.drawn = "";
    this.draw();
  }

  private head(): HTMLTableSectionElement {
    const row = make("tr");
    for (const column of this.columns) {
      const cell = make("th", column.digits === undefined ? "" : "n");
      const button = make("button", "", column.title);
      button.type = "button";
      button.title = column.hint;
      cell.scope = "col";
      cell.append(button);
      button.addEventListener("click", () => this.sort(column));
      this.heads.set(column, cell);
      row.append(cell);
    }
    const head = make("thead");
    head.append(row);
    return head;
  }

  private sort(column: Column): void {
    const down = column.digits !== undefined || column.name === "damage_class";
    const again = this.sorted?.column === column;
    this.sorted = { column, up: again ? !this.sorted?.up : !down };
    for (const [other, cell] of this.heads) {
      if (other === column)
        cell.setAttribute("aria-sort", this.sorted.up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    this.frame.scrollTop = 0;
    this.refill();
  }

  private draw(): void {
    const from = Math.max(0, Math.floor(this.frame.scrollTop / ROW) - SPARE);
    const to = Math.min(
      this.order.length,
      Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / ROW) + SPARE,
    );
    const now = `${from} ${to}`;
    if (now === this.drawn) return;
    this.drawn = now;
    const focused = (document.activeElement as HTMLElement | null)?.dataset.row;
    const rows = this.order.slice(from, to).map((row, k) => this.row(row, from + k));
    this.body.replaceChildren(gap(from), ...rows, gap(this.order.length - to));
    if (focused !== undefined) this.focus(Number(focused));
  }

  private row(row: number, at: number): HTMLTableRowElement {
    const made = make("tr", row === this.choice.picked ? "picked" : "");
    made.dataset.row = String(row);
    made.setAttribute("aria-rowindex", String(at + 2));
    if (row === this.choice.picked) made.setAttribute("aria-selected", "true");
    made.tabIndex = row === this.choice.picked || (this.choice.picked < 0 && at === 0) ? 0 : -1;
    for (const column of this.columns) made.append(this.cell(column, row));
    return made;
  }

  private cell(column: Column, row: number): HTMLTableCellElement {
    const value = this.data.columns[column.name]?.[row] ?? null;
    if (column.name === "damage_class") {
      const cell = make("td");
      cell.append(make("i", `key c${value}`), this.names.get(value as number) ?? "");
      return cell;
    }
    if (column.digits === undefined) {
      const cell = make("td", "", String(value ?? ""));
      cell.title = cell.textContent ?? "";
      return cell;
    }
    const number = value as number | null;
    const cell = make("td", "n");
    cell.textContent =
      column.digits === 0 && number !== null ? figure(number) : decimals(number, column.digits);
    if (column.name === "damage_score" && number !== null) {
      const bar = make("i", "bar");
      const fill = make("i", `c${this.data.columns.damage_class[row]}`);
      fill.style.width = `${100 * number}%`;
      bar.append(fill);
      cell.prepend(bar);
    }
    return cell;
  }

  /** Up and down pick the neighbour; Enter and space the row itself. */
  private key(event: KeyboardEvent): void {
    const row = Number((event.target as Element).closest("tr")?.dataset.row);
    const at = this.order.indexOf(row);
    const steps: Record<string, number> = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: this.order.length - 1,
      Enter: at,
      " ": at,
    };
    const next = this.order[steps[event.key] ?? -1];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    this.choice.pick(next, "keyboard");
    this.focus(next);
  }

  private focus(row: number): void {
    this.body.querySelector<HTMLElement>(`tr[data-row="${row}"]`)?.focus({ preventScroll: true });
  }
}

function gap(rows: number): HTMLTableRowElement {
  const made = make("tr", "gap");
  made.setAttribute("aria-hidden", "true");
  made.style.height = `${rows * ROW}px`;
  return made;
}

/** What is not known comes last whichever way the rest is sorted. */
function compare(
  a: string | number | null | undefined,
  b: string | number | null | undefined,
  turn: number,
): number {
  const noA = a === null || a === undefined || a === "";
  const noB = b === null || b === undefined || b === "";
  if (noA || noB) return noA === noB ? 0 : noA ? turn : -turn;
  if (typeof a === "string" || typeof b === "string") return natural.compare(String(a), String(b));
  return a - b;
}

const natural = new Intl.Collator("en", { numeric: true });
