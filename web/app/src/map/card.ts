/** What is known of the chosen building, and what a reviewer can say of it. */

import type { Building, Code } from "../contract";
import { button, decimals, figure, make, swatch } from "../page";

type Chance = "p_none" | "p_minor" | "p_major" | "p_destroyed";
const CHANCES: [Chance, code: number][] = [
  ["p_none", 1],
  ["p_minor", 2],
  ["p_major", 3],
  ["p_destroyed", 4],
];

/** Levels that a reviewer gives, each by its code's key. */
export const LEVELS = [1, 2, 3, 4];

export interface Acts {
  accept: () => void;
  correct: (code: number) => void;
  reject: () => void;
  undo: () => void;
  close: () => void;
}

export class Card {
  readonly element = make("section", "building-card");

  constructor(
    private readonly legend: Code[],
    private readonly acts: Acts,
    private readonly allowed: boolean,
  ) {
    this.element.setAttribute("aria-label", "Building");
    this.show(null);
  }

  show(building: Building | null): void {
    this.element.hidden = !building;
    if (!building) return;
    const { properties } = building;
    const close = button("×", this.acts.close, "close");
    close.setAttribute("aria-label", "Close");
    const title = make("h2", "", ...this.named(properties.damage_class));
    this.element.replaceChildren(close, title, make("p", "soft id", building.id));
    this.element.append(this.chances(building), this.facts(building), this.verdict(building));
  }

  private named(code: number): (Node | string)[] {
    const entry = this.legend.find((one) => one.code === code);
    return [swatch(entry?.colour ?? "#888888"), entry?.name ?? `code ${code}`];
  }

  private chances({ properties }: Building): HTMLElement {
    const rows = make("div", "chances");
    for (const [name, code] of CHANCES) {
      const value = properties[name];
      if (typeof value !== "number") continue;
      const entry = this.legend.find((one) => one.code === code);
      const fill = make("i");
      fill.style.width = `${100 * value}%`;
      fill.style.backgroundColor = entry?.colour ?? "#888888";
      rows.append(make("span", "", entry?.name ?? name), make("span", "bar", fill));
      rows.append(make("span", "n", decimals(value, 2)));
    }
    return rows;
  }

  private facts({ properties }: Building): HTMLElement {
    const list = make("dl", "facts");
    const add = (title: string, value: string): void => {
      list.append(make("dt", "", title), make("dd", "", value));
    };
    const { damage_score, area_m2, valid_frac, lat, lon, address } = properties;
    if (typeof damage_score === "number") add("Damage score", decimals(damage_score, 2));
    if (typeof area_m2 === "number") add("Area", `${figure(area_m2)} m²`);
    if (typeof valid_frac === "number") add("Analysed", `${Math.round(100 * valid_frac)} %`);
    if (address) add("Address", address);
    if (typeof lat === "number") add("Lat, lon", `${decimals(lat, 5)}, ${decimals(lon, 5)}`);
    return list;
  }

  private verdict({ properties }: Building): HTMLElement {
    const { review } = properties;
    const made = make("div", "verdict");
    const words = make("p");
    words.setAttribute("aria-live", "polite");
    if (review?.verdict) {
      const now = review.verdict === "corrected" && review.damage_class !== null;
      words.append(make("b", "", review.verdict), now ? " to " : "");
      if (now) words.append(...this.named(review.damage_class!));
      words.append(` by ${review.user}`);
    } else {
      words.append("Not reviewed yet.");
    }
    const levels = LEVELS.map((code) => {
      const level = button("", () => this.acts.correct(code), "label", String(code));
      level.prepend(...this.named(code));
      return level;
    });
    const buttons = make("div", "buttons");
    buttons.append(
      button("Accept", this.acts.accept, "", "A"),
      button("Reject", this.acts.reject, "", "R"),
      button("Undo", this.acts.undo, "", "U"),
    );
    buttons.append(...levels);
    for (const each of buttons.querySelectorAll("button")) each.disabled = !this.allowed;
    made.append(words, buttons);
    return made;
  }
}
