/** Who did what and when, the newest first. */

import { get } from "../api";
import type { AuditEntry } from "../contract";
import type { Key } from "../keys";
import { warn } from "../messages";
import { button, make, moment, table } from "../page";

const AT_ONCE = 50;

export class AuditTrail {
  readonly element = make("section", "audit");
  readonly keys: Key[] = [];
  private readonly list = make("div");
  private readonly more = button("More", () => void this.load(this.entries));
  private entries: AuditEntry[] = [];

  constructor() {
    this.element.append(this.list, this.more);
  }

  open(): void {
    void this.load([]);
  }

  /** Shows what is known and the entries before it. */
  private async load(known: AuditEntry[]): Promise<void> {
    this.more.disabled = true;
    try {
      const query = { before: known.at(-1)?.id, limit: AT_ONCE };
      const found = await get<AuditEntry[]>("/audit", query);
      this.entries = [...known, ...found];
      this.more.hidden = found.length < AT_ONCE;
    } catch (failure) {
      return warn(failure);
    } finally {
      this.more.disabled = false;
    }
    const rows = this.entries.map((entry) => [
      moment(entry.at),
      entry.user ?? "nobody",
      entry.action,
      entry.subject,
      details(entry),
    ]);
    this.list.replaceChildren(table(["When", "Who", "What", "Of what", "Details"], rows));
  }
}

function details({ details: told }: AuditEntry): string {
  return Object.entries(told)
    .filter(([, value]) => value !== null && value !== false)
    .map(([name, value]) => [name.replaceAll("_", " "), value === true ? "" : words(value)])
    .map((pair) => pair.join(" ").trim())
    .join(" · ");
}

function words(value: unknown): string {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
