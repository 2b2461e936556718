/** Which buildings are drawn. */

import type { Code } from "../contract";
import { choice, field, make, swatch } from "../page";
import type { Wanted } from "./buildings";

export function buildingFilters(legend: Code[], changed: (wanted: Wanted) => void): HTMLElement {
  let reviewed = "any";
  const score = make("input");
  score.type = "range";
  score.min = "0";
  score.max = "100";
  score.value = "0";
  const least = make("output", "", "0.00");
  // Background is no building.
  const boxes = legend
    .filter(({ code }) => code > 0)
    .map((entry): [Code, HTMLInputElement] => {
      const box = make("input");
      box.type = "checkbox";
      box.checked = true;
      return [entry, box];
    });
  const apply = (): void => {
    least.textContent = (score.valueAsNumber / 100).toFixed(2);
    const on = boxes.filter(([, box]) => box.checked).map(([{ code }]) => code);
    changed({
      // No code at all is -1: an empty list would mean every class.
      classes: on.length === boxes.length ? "" : on.join(",") || "-1",
      least_score: score.valueAsNumber > 0 ? String(score.valueAsNumber / 100) : "",
      reviewed,
    });
  };
  for (const control of [score, ...boxes.map(([, box]) => box)]) {
    control.addEventListener("change", apply);
  }
  score.addEventListener("input", () => {
    least.textContent = (score.valueAsNumber / 100).toFixed(2);
  });
  const states: [string, string][] = [
    ["any", "Reviewed or not"],
    ["no", "Not reviewed"],
    ["yes", "Reviewed"],
  ];
  const select = choice(states, "any", (value) => {
    reviewed = value;
    apply();
  });
  const classes = make("fieldset", "classes", make("legend", "", "Classes"));
  for (const [{ name, colour }, box] of boxes) {
    classes.append(make("label", "", box, swatch(colour), name));
  }
  const scores = field("Least score", score);
  scores.append(least);
  return make("div", "filters", classes, scores, field("State", select));
}
