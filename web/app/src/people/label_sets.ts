/** The label sets with all their versions; a changed set is a new version. */

import { get } from "../api";
import type { LabelSet } from "../contract";
import { type Key, key } from "../keys";
import { newestOf } from "../labels";
import { warn } from "../messages";
import { button, make, swatch, table } from "../page";
import type { Desk } from "../shell";
import { labelForm } from "./label_form";

export class LabelSets {
  readonly element = make("section", "label-sets");
  readonly keys: Key[] = [key("N", "New label set", () => this.edit(null))];

  private editing = false;

  constructor(private readonly desk: Desk) {}

  open(): void {
    this.editing = false;
    void this.load();
  }

  private async load(): Promise<void> {
    const { desk } = this;
    try {
      desk.labelVersions = await get<LabelSet[]>("/label-sets", { every: "true" });
      desk.labelSets = newestOf(desk.labelVersions);
    } catch (failure) {
      warn(failure);
    }
    if (this.editing) return;
    const add = button("New label set", () => this.edit(null), "main", "N");
    this.element.replaceChildren(make("div", "buttons", add));
    this.element.append(...desk.labelSets.map((set) => this.shown(set)));
  }

  private shown(newest: LabelSet): HTMLElement {
    const change = button("New version", () => this.edit(newest));
    change.setAttribute("aria-label", `New version of ${newest.name}`);
    const title = make("h2", "", `${newest.name}, version ${newest.version}`);
    const made = make("article", "label-set", make("div", "top", title, change), labels(newest));
    const older = this.desk.labelVersions
      .filter(({ name, id }) => name === newest.name && id !== newest.id)
      .reverse();
    if (!older.length) return made;
    const folded = make("details", "", make("summary", "", "Older versions"));
    for (const set of older) folded.append(make("h3", "", `Version ${set.version}`), labels(set));
    made.append(folded);
    return made;
  }

  private edit(old: LabelSet | null): void {
    if (this.editing) return;
    this.editing = true;
    const { form, first } = labelForm(old, () => this.open());
    this.element.replaceChildren(form);
    first.focus();
  }
}

function labels(set: LabelSet): HTMLElement {
  const rows = set.labels.map((label) => [
    make("span", "", swatch(label.colour), label.title),
    make("kbd", "", label.key),
    label.name,
    label.damaged === null ? "unknown" : label.damaged ? "yes" : "no",
  ]);
  return table(["Title", "Key", "Name", "Damaged"], rows);
}
