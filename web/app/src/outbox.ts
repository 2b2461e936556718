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
  /** The server's words, where it will not have it: now a person decides. */
  refused?: string;
  /** How often the server failed over it, and its last words. */
  failed?: { times: number; words: string };
}

export type TagEntry = Kept & { kind: "tag"; body: TagBody; shown: Tag };
export type ReviewEntry = Kept & { kind: "review"; run: number; body: ReviewBody };
export type Entry = TagEntry | ReviewEntry;

export interface Ear {
  sent?: (entry: Entry) => void;
  /** The entry is out of the queue, or waits for a person, and was not kept by the server. */
  refused?: (entry: Entry, why: Failure) => void;
  /** What was refused waits to be sent once more. */
  revived?: (entry: Entry) => void;
  changed?: () => void;
}

const FALLEN = "What it changes was refused.";
const FIRST_WAIT = 1_000;
const LONGEST_WAIT = 20_000;
const CONFLICT = 409;
const SERVER_ERROR = 500;
/** Failures of the server over one entry, after which the others go before it. */
const MOST_FAILURES = 3;

export class Outbox {
  /** What the last attempt failed over; nothing where it did not. */
  trouble = "";
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

  /** Sends what waits; done when all is sent, or was tried, or the server does not answer. */
  send(): Promise<void> {
    this.sending ??= this.sendAll().finally(() => (this.sending = null));
    return this.sending;
  }

  /** Forgets an entry, and what makes no sense without it. */
  discard(entry: Entry): void {
    for (const [key] of this.chain(entry)) this.drop(key);
    this.tell();
  }

  /** Sends once more what was refused, and what fell with it. */
  revive(entry: Entry): void {
    for (const [key, one] of this.chain(entry)) {
      this.keep(key, { ...one, refused: "" });
      for (const ear of this.ears) ear.revived?.(one);
    }
    this.tell();
    void this.send();
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
    const tried = new Set<string>();
    for (let next = this.next(tried); next && !this.closed; next = this.next(tried)) {
      const [key, entry] = next;
      try {
        await post(pathOf(entry), entry.body);
        this.drop(key);
        this.trouble = "";
        this.wait = FIRST_WAIT;
        for (const ear of this.ears) ear.sent?.(entry);
      } catch (error) {
        const failure = error instanceof Failure ? error : new Failure(0, String(error));
        if (failure.code >= SERVER_ERROR && this.fails(key, entry, failure)) tried.add(key);
        else if (failure.passing) return this.later(failure.message);
        else this.refuse(key, entry, failure);
      }
      this.tell();
    }
    const [left] = tried;
    if (left) this.later("The server fails over some of them.");
  }

  private later(trouble: string): void {
    if (this.closed) return;
    this.trouble = trouble;
    this.timer = setTimeout(() => void this.send(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT);
    this.tell();
  }

  /** Notes that the server failed over an entry; whether the others need not wait for it any more. */
  private fails(key: string, entry: Entry, why: Failure): boolean {
    const failed = { times: (entry.failed?.times ?? 0) + 1, words: why.message };
    // Meanwhile somebody may have discarded it.
    if (this.kept().some(([other]) => other === key)) this.keep(key, { ...entry, failed });
    return failed.times >= MOST_FAILURES;
  }

  /** Somebody was first, or the server will not take it; what builds on it falls with it. */
  private refuse(key: string, entry: Entry, why: Failure): void {
    for (const [other, one] of this.chain(entry)) {
      if (why.code === CONFLICT) this.drop(other);
      else this.keep(other, { ...one, refused: other === key ? why.message : FALLEN });
    }
    for (const ear of this.ears) ear.refused?.(entry, why);
  }

  /** What is to be sent next: in order, but what is stuck comes last, and what builds on it waits. */
  private next(tried: Set<string>): [string, Entry] | undefined {
    const waiting = this.kept().filter(([, entry]) => !entry.refused);
    const free = ([key, entry]: [string, Entry]): boolean =>
      !tried.has(key) && !waiting.some(([, other]) => buildsOn(entry, other));
    return waiting.find((one) => !isStuck(one[1]) && free(one)) ?? waiting.find(free);
  }

  /** An entry and all that makes sense only after it, in order. */
  private chain(entry: Entry): [string, Entry][] {
    const found: [string, Entry][] = [];
    for (const one of this.kept()) {
      const within = found.some(([, before]) => buildsOn(one[1], before));
      if (within || one[1].body.id === entry.body.id) found.push(one);
    }
    return found;
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

/** Whether the server failed over it so often that the others go before it. */
export function isStuck(entry: Entry): boolean {
  return (entry.failed?.times ?? 0) >= MOST_FAILURES;
}

/** Whether an entry makes sense only after another one. */
function buildsOn(entry: Entry, other: Entry): boolean {
  if (entry.kind === "tag") return entry.body.replaces === other.body.id;
  if (other.kind === "tag" || entry.run !== other.run) return false;
  const { building_id, after } = entry.body;
  return building_id === other.body.building_id && after > other.body.after;
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
