/** The controls above the table. */

import type { Choice } from "./choice";
import type { Data } from "./data";
import { byId, figure, make } from "./page";

export function startFilters(data: Data, choice: Choice): void {
  const text = byId<HTMLInputElement>("text");
  const low = byId<HTMLInputElement>("low");
  const high = byId<HTMLInputElement>("high");
  const boxes = classBoxes(data, byId("classes"));
  byId("scores").hidden = !data.columns.damage_score;

  const apply = (): void => {
    const ends = [low.valueAsNumber / 100, high.valueAsNumber / 100].sort((a, b) => a - b);
    const [from = 0, to = 1] = ends;
    byId("range").textContent = `${from.toFixed(2)}–${to.toFixed(2)}`;
    const classes = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
    choice.apply({ classes, low: from, high: to, text: text.value });
  };
  choice.filtered(() => {
    const all = data.columns.id.length;
    const shown = choice.shown.length;
    byId("count").textContent =
      shown === all
        ? `${figure(all)} ${data.kind}`
        : `${figure(shown)} of ${figure(all)} ${data.kind}`;
  });
  for (const control of [text, low, high, ...boxes]) control.addEventListener("input", apply);
  byId("reset").addEventListener("click", () => {
    text.value = "";
    low.value = "0";
    high.value = "100";
    for (const box of boxes) box.checked = true;
    apply();
  });
  apply();
}

function classBoxes(data: Data, into: HTMLElement): HTMLInputElement[] {
  const count = new Map<number, number>();
  for (const code of data.columns.damage_class) count.set(code, (count.get(code) ?? 0) + 1);
  return data.legend
    .filter((entry) => count.has(entry.code))
    .reverse()
    .map((entry) => {
      const label = make("label", "chip");
      const box = make("input");
      box.type = "checkbox";
      box.checked = true;
      box.value = String(entry.code);
      label.append(box, make("i", `key c${entry.code}`), make("span", "", entry.name));
      label.append(make("b", "", figure(count.get(entry.code) ?? 0)));
      into.append(label);
      return box;
    });
}
