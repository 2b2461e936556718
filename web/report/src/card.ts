/** What is known about the picked place, on a card that lies on the map. */

import type { Choice } from "./choice";
import type { Columns, Data } from "./data";
import { byId, decimals, figure, make } from "./page";

const NOT_ANALYSED = 255;
const LEVELS: [keyof Columns, number, string][] = [
  ["p_none", 1, "No damage"],
  ["p_minor", 2, "Minor"],
  ["p_major", 3, "Major"],
  ["p_destroyed", 4, "Destroyed"],
];

export function startCard(data: Data, choice: Choice): void {
  const card = byId("card");
  choice.chosen(() => {
    card.hidden = choice.picked < 0 && choice.gap < 0;
    if (choice.picked >= 0) card.replaceChildren(...place(data, choice));
    else if (choice.gap >= 0) card.replaceChildren(...gap(data, choice));
  });
}

function head(data: Data, choice: Choice, code: number): HTMLElement[] {
  const close = make("button", "close", "×");
  close.type = "button";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => choice.pick(-1, "card"));
  const title = make("h3");
  const entry = data.legend.find((one) => one.code === code);
  title.append(make("i", `key c${code}`), entry?.name ?? "");
  return [close, title];
}

function gap(data: Data, choice: Choice): HTMLElement[] {
  const area = data.unseen.area[choice.gap];
  return [
    ...head(data, choice, NOT_ANALYSED),
    make("p", "id", data.unseen.reason[choice.gap] ?? ""),
    make("p", "soft id", typeof area === "number" ? `${figure(area)} m²` : ""),
  ];
}

function place(data: Data, choice: Choice): HTMLElement[] {
  const row = choice.picked;
  const { columns } = data;
  const found = head(data, choice, columns.damage_class[row] ?? 0);
  found.push(make("p", "soft id", columns.id[row] ?? ""));

  const levels = make("div", "levels");
  for (const [name, level, label] of LEVELS) {
    const value = columns[name]?.[row];
    if (typeof value !== "number") continue;
    const bar = make("i", "bar");
    const fill = make("i", `c${level}`);
    fill.style.width = `${100 * value}%`;
    bar.append(fill);
    levels.append(make("span", "", label), bar, make("span", "n", decimals(value, 2)));
  }
  if (levels.childElementCount) found.push(levels);

  const facts = make("dl");
  const add = (label: string, value: string): void => {
    facts.append(make("dt", "", label), make("dd", "", value));
  };
  const area = columns.area_m2?.[row];
  const seen = columns.valid_frac?.[row];
  if (columns.damage_score) add("Damage score", decimals(columns.damage_score[row], 2));
  if (typeof area === "number") add("Area", `${figure(area)} m²`);
  if (typeof seen === "number") add("Analysed", `${Math.round(100 * seen)} %`);
  if (columns.source_id?.[row]) add("Source id", columns.source_id[row]);
  if (columns.flags?.[row]) add("Flags", columns.flags[row]);
  add("Lat, lon", `${decimals(columns.lat[row], 5)}, ${decimals(columns.lon[row], 5)}`);
  found.push(facts);
  return found;
}
