/** The page where tags are looked through, mended, compared and taken home. */

import { link } from "../api";
import { choice, field, make } from "../page";
import type { Desk, Page } from "../shell";
import { Views } from "../views";
import { AgreementView } from "./agreement";
import { TagGrid } from "./tag_grid";

const FORMATS: [string, string][] = [
  ["geojson", "GeoJSON"],
  ["csv", "CSV"],
  ["coco", "COCO (zip)"],
  ["xbd", "xBD (zip)"],
  ["folders", "Folders of chips (zip)"],
];

export function browsePage(desk: Desk, query: URLSearchParams): Page {
  const [tags, agreement] = [new TagGrid(desk), new AgreementView(desk)];
  const first = query.get("part") === "agreement" ? agreement : tags;
  const views = new Views(
    [
      ["Latest tags", tags],
      ["Agreement", agreement],
    ],
    first,
  );
  const top = make("div", "top", views.buttons, downloads(desk));
  return {
    element: make("div", "browsing", top, views.inside),
    get keys() {
      return views.keys;
    },
    close: () => views.close(),
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
