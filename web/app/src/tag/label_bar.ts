/** The labels as buttons, and which set they come from. */

import type { Label, LabelSet } from "../contract";
import { type Key, key } from "../keys";
import { button, choice, make, swatch } from "../page";

const CHOSEN = "aftermap.label-set";

export class LabelBar {
  readonly element = make("div", "labels");
  chosen: LabelSet | undefined;
  private readonly buttons = make("div", "buttons");

  constructor(
    private readonly sets: LabelSet[],
    private readonly put: (label: Label) => void,
    private readonly allowed: boolean,
    changed: () => void,
  ) {
    const kept = localStorage.getItem(CHOSEN) ?? "";
    this.chosen = sets.find((set) => set.name === kept) ?? sets[0];
    const select = choice(
      sets.map((set) => [set.name, `${set.name} (version ${set.version})`]),
      this.chosen?.name ?? "",
      (name) => {
        localStorage.setItem(CHOSEN, name);
        this.chosen = this.sets.find((set) => set.name === name);
        this.fill();
        changed();
      },
    );
    select.setAttribute("aria-label", "Label set");
    this.element.append(select, this.buttons);
    this.fill();
  }

  keys(): Key[] {
    return this.allowed ? (this.chosen?.labels ?? []).map((label) => this.key(label)) : [];
  }

  private key(label: Label): Key {
    return key(label.key, label.title, () => this.put(label));
  }

  private fill(): void {
    this.buttons.replaceChildren(
      ...(this.chosen?.labels ?? []).map((label) => {
        const made = button("", () => this.put(label), "label", label.key);
        made.prepend(swatch(label.colour), label.title);
        made.disabled = !this.allowed;
        return made;
      }),
    );
  }
}

/** The colour of a label in the version that it was put from, or in another one that has it. */
export function colourOf(versions: LabelSet[], set: number, label: string | null): string {
  return labelOf(versions, set, label)?.colour ?? "#888888";
}

export function titleOf(versions: LabelSet[], set: number, label: string | null): string {
  return labelOf(versions, set, label)?.title ?? label ?? "taken back";
}

function labelOf(versions: LabelSet[], set: number, label: string | null): Label | undefined {
  const own = versions.filter(({ id }) => id === set);
  const others = versions.filter(({ name }) => name === own[0]?.name).reverse();
  return [...own, ...others].flatMap(({ labels }) => labels).find(({ name }) => name === label);
}
