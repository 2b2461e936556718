/** The page of admins: who may log in, what tags can say, and who did what. */

import type { Key } from "../keys";
import { button, make } from "../page";
import type { Desk, Page } from "../shell";
import { AuditTrail } from "./audit";
import { LabelSets } from "./label_sets";
import { Users } from "./users";

interface Part {
  element: HTMLElement;
  keys: Key[];
  open: () => void;
}

export function peoplePage(desk: Desk): Page {
  const parts: [title: string, part: Part][] = [
    ["Users", new Users(desk)],
    ["Label sets", new LabelSets(desk)],
    ["Audit trail", new AuditTrail()],
  ];
  const inside = make("div", "inside");
  let open = parts[0]![1];
  const show = (part: Part): void => {
    open = part;
    tabs.forEach((tab, place) =>
      tab.setAttribute("aria-pressed", String(parts[place]![1] === part)),
    );
    inside.replaceChildren(part.element);
    part.open();
  };
  const tabs = parts.map(([title, part]) => button(title, () => show(part)));
  const group = make("div", "views", ...tabs);
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", "What is shown");
  queueMicrotask(() => show(open));
  return {
    element: make("div", "peopling", make("div", "top", group), inside),
    get keys() {
      return open.keys;
    },
    close: () => {},
  };
}
