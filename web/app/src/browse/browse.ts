/** The page where tags are looked through, mended, compared and taken home. */

import { link } from "../api";
import type { Key } from "../keys";
import { button, choice, field, make } from "../page";
import type { Desk, Page } from "../shell";
import { AgreementView } from "./agreement";
import { TagGrid } from "./tag_grid";

const FORMATS: [string, string][] = [
  ["geojson", "GeoJSON"],
  ["csv", "CSV"],
  ["coco", "COCO (zip)"],
  ["xbd", "xBD (zip)"],
  ["folders", "Folders of chips (zip)"],
];

interface Part {
  element: HTMLElement;
  keys: Key[];
  open: () => void;
  close: () => void;
}

export function browsePage(desk: Desk, query: URLSearchParams): Page {
  const parts: [string, Part][] = [
    ["Latest tags", new TagGrid(desk)],
    ["Agreement", new AgreementView(desk)],
  ];
  const inside = make("div", "inside");
  let open = parts[query.get("part") === "agreement" ? 1 : 0]![1];
  const show = (part: Part): void => {
    open.close();
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
  const top = make("div", "top", group, downloads(desk));
  queueMicrotask(() => show(open));
  return {
    element: make("div", "browsing", top, inside),
    get keys() {
      return open.keys;
    },
    close: () => open.close(),
  };
}

function downloads(desk: Desk): HTMLElement {
  const here = make("a", "button", "Download");
  here.download = "";
  const sets = desk.labelSets.map(({ id, name }): [string, string] => [String(id), name]);
  let format = FORMATS[0]![0];
  let set = sets[0]?.[0] ?? "";
  const point = (): void => {
    here.href = link("/export", { format, label_set: set });
  };
  const formats = choice(FORMATS, format, (value) => {
    format = value;
    point();
  });
  const labels = choice(sets, set, (value) => {
    set = value;
    point();
  });
  point();
  return make("div", "export", field("Tags of", labels), field("as", formats), here);
}
