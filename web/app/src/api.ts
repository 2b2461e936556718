/** Requests to the server that this page came from, and to no other. */

import type { User } from "./contract";

const PATIENCE = 60_000;

/** What the server refused, in its words; a code of 0 says that it did not answer at all. */
export class Failure extends Error {
  constructor(
    readonly code: number,
    words: string,
  ) {
    super(words);
  }

  /** Whether the same request may well succeed later. */
  get passing(): boolean {
    return this.code === 0 || this.code === 401 || this.code === 429 || this.code >= 500;
  }
}

export interface Session {
  user: User;
  token: string;
}

type Query = Record<string, string | number | null | undefined>;

let session: Session | null = null;
let loggedOut = (): void => {};

export function onLoggedOut(act: () => void): void {
  loggedOut = act;
}

export async function logIn(name: string, password: string): Promise<Session> {
  session = await request<Session>("POST", "/login", { name, password });
  return session;
}

export async function logOut(): Promise<void> {
  await request("POST", "/logout", {});
  session = null;
}

/** The session that the browser's cookie stands for, or nothing. */
export async function resume(): Promise<Session | null> {
  try {
    session = await request<Session>("GET", "/me");
  } catch (failure) {
    if (!(failure instanceof Failure) || failure.code !== 401) throw failure;
    session = null;
  }
  return session;
}

export async function get<T>(path: string, query: Query = {}, signal?: AbortSignal): Promise<T> {
  return watched(() => request<T>("GET", address(path, query), undefined, signal));
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return watched(async () => {
    try {
      return await request<T>("POST", path, body);
    } catch (failure) {
      if (!(failure instanceof Failure) || failure.code !== 403) throw failure;
      if (!(await renewed())) throw failure;
      return request<T>("POST", path, body);
    }
  });
}

/** The address of a picture or a download. */
export function link(path: string, query: Query = {}): string {
  return `api${address(path, query)}`;
}

/** Somebody logged in again in another tab: its token is ours too, if it is the same person. */
async function renewed(): Promise<boolean> {
  const before = session;
  const now = await request<Session>("GET", "/me");
  if (now.user.name !== before?.user.name) {
    location.reload();
    return false;
  }
  session = now;
  return now.token !== before.token;
}

async function watched<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (failure) {
    if (failure instanceof Failure && failure.code === 401 && session) {
      session = null;
      loggedOut();
    }
    throw failure;
  }
}

function address(path: string, query: Query): string {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") told.set(name, String(value));
  }
  return told.size ? `${path}?${told}` : path;
}

async function request<T>(
  method: string,
  path: string,
  body?: unknown,
  signal?: AbortSignal,
): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session) headers["X-CSRF-Token"] = session.token;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(`api${path}`, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      credentials: "same-origin",
      signal: signal ?? AbortSignal.timeout(PATIENCE),
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    if ((error as Error).name === "TimeoutError") {
      throw new Failure(504, "The server takes too long to answer.");
    }
    throw new Failure(0, "The server does not answer. Check the network, and that it still runs.");
  }
  const found = parsed(text);
  if (answer.ok) return found as T;
  const words = (found as { error?: unknown } | null)?.error;
  throw new Failure(
    answer.status,
    typeof words === "string" ? words : `The server answered with error ${answer.status}.`,
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}
