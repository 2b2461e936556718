/**
 * What was said and not yet heard: kept in the browser until the server has answered.
 *
 * Each entry has its own place in localStorage, so that two tabs do not overwrite each other's.
 * Sent twice, an entry is still one: its id is made here.
 */

import { Failure, post } from "./api";
import type { ReviewBody, Tag, TagBody } from "./contract";

interface Kept {
  /** For people. */
  title: string;
  /** The server's words, where it will not have it. */
  refused?: string;
}

export type TagEntry = Kept & { kind: "tag"; body: TagBody; shown: Tag };
export type ReviewEntry = Kept & { kind: "review"; run: number; body: ReviewBody };
export type Entry = TagEntry | ReviewEntry;

export interface Ear {
  sent?: (entry: Entry) => void;
  /** The entry is out of the queue, or waits for a person, and was not kept by the server. */
  refused?: (entry: Entry, why: Failure) => void;
  changed?: () => void;
}

const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 20_000;
const CONFLICT = 409;

export class Outbox {
  /** Whether the last attempt found no server. */
  stuck = false;
  private readonly prefix: string;
  /** Where the browser keeps nothing: gone with the page. */
  private readonly loose = new Map<string, Entry>();
  private readonly ears = new Set<Ear>();
  private sending: Promise<void> | null = null;
  private wait = FIRST_WAIT;
  private timer = 0;
  private last = 0;
  private closed = false;

  constructor(user: string) {
    this.prefix = `aftermap.unsent.${user}.`;
    addEventListener("online", this.hurry);
    addEventListener("storage", this.heard);
  }

  close(): void {
    this.closed = true;
    removeEventListener("online", this.hurry);
    removeEventListener("storage", this.heard);
    clearTimeout(this.timer);
    this.ears.clear();
  }

  listen(ear: Ear): () => void {
    this.ears.add(ear);
    return () => this.ears.delete(ear);
  }

  /** All entries, oldest first. */
  entries(): Entry[] {
    return this.kept().map(([, entry]) => entry);
  }

  put(entry: Entry): void {
    this.last = Math.max(Date.now(), this.last + 1);
    this.keep(`${this.prefix}${this.last}.${entry.body.id}`, entry);
    this.tell();
    void this.send();
  }

  /** Sends what waits; done when all is sent or the server does not answer. */
  send(): Promise<void> {
    this.sending ??= this.sendAll().finally(() => (this.sending = null));
    return this.sending;
  }

  discard(entry: Entry): void {
    for (const [key, other] of this.kept()) if (other.body.id === entry.body.id) this.drop(key);
    this.tell();
  }

  private readonly hurry = (): void => {
    this.wait = FIRST_WAIT;
    void this.send();
  };

  private readonly heard = (event: StorageEvent): void => {
    if (event.key?.startsWith(this.prefix)) this.tell();
  };

  private async sendAll(): Promise<void> {
    clearTimeout(this.timer);
    for (let next = this.first(); next && !this.closed; next = this.first()) {
      const [key, entry] = next;
      try {
        await post(pathOf(entry), entry.body);
        this.drop(key);
        this.stuck = false;
        this.wait = FIRST_WAIT;
        for (const ear of this.ears) ear.sent?.(entry);
      } catch (error) {
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        if (failure.passing) {
          this.later();
          return;
        }
        this.refuse(key, entry, failure);
      }
      this.tell();
    }
  }

  private later(): void {
    if (this.closed) return;
    this.stuck = true;
    this.timer = setTimeout(() => void this.send(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
    this.tell();
  }

  /** Somebody was first, or the server will never take it; what builds on it falls with it. */
  private refuse(key: string, entry: Entry, why: Failure): void {
    if (why.code === CONFLICT) this.drop(key);
    else this.keep(key, { ...entry, refused: why.message });
    for (const [other, later] of this.kept()) {
      const on = later.kind === "tag" && later.body.replaces === entry.body.id;
      if (on) this.drop(other);
    }
    for (const ear of this.ears) ear.refused?.(entry, why);
  }

  private first(): [string, Entry] | undefined {
    return this.kept().find(([, entry]) => !entry.refused);
  }

  private kept(): [string, Entry][] {
    const found = [...this.loose];
    for (const key of Object.keys(localStorage)) {
      const text = key.startsWith(this.prefix) ? localStorage.getItem(key) : null;
      if (text) found.push([key, JSON.parse(text) as Entry]);
    }
    return found.sort(([a], [b]) => (a < b ? -1 : 1));
  }

  private keep(key: string, entry: Entry): void {
    try {
      localStorage.setItem(key, JSON.stringify(entry));
    } catch {
      this.loose.set(key, entry);
    }
  }

  private drop(key: string): void {
    localStorage.removeItem(key);
    this.loose.delete(key);
  }

  private tell(): void {
    for (const ear of this.ears) ear.changed?.();
  }
}

function pathOf(entry: Entry): string {
  return entry.kind === "tag" ? "/tags" : `/runs/${entry.run}/reviews`;
}

/** A new UUID; crypto.randomUUID is missing where a page is not served by https. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [8, 12, 16, 20].reduceRight((text, at) => `${text.slice(0, at)}-${text.slice(at)}`, hex);
}
