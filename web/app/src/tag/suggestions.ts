/** What is worth looking at next, in the server's order. */

import { get } from "../api";
import type { Suggestion } from "../contract";

const AT_ONCE = 20;
/** The server's limit. */
const MOST = 1_000;

export class Suggestions {
  private waiting: Suggestion[] = [];
  private readonly seen = new Set<string>();

  /** The next one that was not shown yet; nothing where there are no more. */
  async next(): Promise<Suggestion | undefined> {
    if (!this.waiting.length) await this.fetch();
    const next = this.waiting.shift();
    if (next) this.seen.add(name(next));
    return next;
  }

  private async fetch(): Promise<void> {
    // Those skipped stand before those not seen yet: ask for that many more.
    const limit = Math.min(AT_ONCE + this.seen.size, MOST);
    const found = await get<Suggestion[]>("/suggestions", { limit });
    this.waiting = found.filter((suggestion) => !this.seen.has(name(suggestion)));
    if (this.waiting.length || !found.length) return;
    this.seen.clear();
    this.waiting = found;
  }
}

function name(suggestion: Suggestion): string {
  return `${suggestion.scene} ${suggestion.square}`;
}
