/** What the app says: shown at the edge of the page, and read out by screen readers. */

import { button, make } from "./page";

const SHORT = 4_000;
const LONG = 20_000;
const MOST = 3;

/** Something went as it should. */
export function tell(text: string): void {
  show("told", text, SHORT);
}

/** Something did not. */
export function warn(what: unknown): void {
  show("warned", what instanceof Error ? what.message : String(what), LONG);
}

function show(id: string, text: string, lasts: number): void {
  const into = document.getElementById(id);
  if (!into) return;
  const message = make("p", "message", text);
  const gone = (): void => message.remove();
  const close = button("×", gone, "close");
  close.setAttribute("aria-label", "Dismiss");
  message.append(close);
  into.append(message);
  while (into.childElementCount > MOST) into.firstElementChild?.remove();
  setTimeout(gone, lasts);
}
