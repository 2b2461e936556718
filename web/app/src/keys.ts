/** What keys do on a page, and the dialog that tells. */

import { button, make } from "./page";

export interface Key {
  /** As in KeyboardEvent.key; letters are small. */
  keys: string[];
  /** As people call it. */
  told: string;
  title: string;
  act: (event: KeyboardEvent) => void;
}

export function key(told: string, title: string, act: Key["act"], ...keys: string[]): Key {
  return { keys: keys.length ? keys : [told.toLowerCase()], told, title, act };
}

const TYPED = "input:not([type=checkbox], [type=range], [type=button]), textarea, select";

/** Listens for the keys of the page that is open; returns how to stop. */
export function startKeys(current: () => Key[]): () => void {
  const heard = (event: KeyboardEvent): void => {
    const target = event.target as Element;
    if (event.defaultPrevented || event.altKey || event.metaKey) return;
    if (document.querySelector("dialog[open]")) return;
    if (target.matches(TYPED) && event.key !== "Escape") return;
    // Enter and space press the button that has the focus; arrows move a slider.
    if (target.matches("button, a, summary, input") && ["Enter", " "].includes(event.key)) return;
    if (target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    const pressed = (event.ctrlKey ? "ctrl+" : "") + event.key.toLowerCase();
    const found =
      pressed === "?" ? help(current) : current().find(({ keys }) => keys.includes(pressed))?.act;
    if (!found) return;
    event.preventDefault();
    found(event);
  };
  document.addEventListener("keydown", heard);
  return () => document.removeEventListener("keydown", heard);
}

export function help(current: () => Key[]): () => void {
  return () => {
    const list = make("dl", "keys");
    for (const { told, title } of [...current(), key("?", "Show these keys", () => {})]) {
      list.append(make("dt", "", make("kbd", "", told)), make("dd", "", title));
    }
    openDialog("Keys", list);
  };
}

export function openDialog(title: string, ...inside: Node[]): HTMLDialogElement {
  const dialog = make("dialog", "", make("h2", "", title), ...inside);
  dialog.setAttribute("aria-label", title);
  dialog.append(button("Close", () => dialog.close(), "main"));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
