/** The latest tags as pictures; one of them is chosen, and keys change it. */

import { get } from "../api";
import type { LabelSet, Tag } from "../contract";
import { type Key, key } from "../keys";
import { tell, warn } from "../messages";
import { button, choice, field, make, moment, swatch } from "../page";
import type { Desk } from "../shell";
import { colourOf, titleOf } from "../tag/label_bar";
import { correctTag, where } from "../tag/put";
import { chipPicture } from "./chip";

const AT_ONCE = 60;

export class TagGrid {
  readonly element = make("div", "tags");
  private readonly grid = make("ul", "grid plain");
  private readonly count = make("p", "soft");
  private readonly more = button("More", () => void this.load(true));
  private readonly fixes = make("div", "fixes");
  private readonly wanted = { scene: "", user: "", label: "" };
  private tags: Tag[] = [];
  private chosen = 0;
  private stop = (): void => {};
  private asked = 0;

  constructor(private readonly desk: Desk) {
    const user = make("input");
    user.type = "search";
    user.placeholder = "Everyone";
    user.autocapitalize = "none";
    user.addEventListener("change", () => this.filter("user", user.value.trim()));
    const scenes = desk.scenes.map(({ id, name }): [string, string] => [String(id), name]);
    const every = desk.labelVersions.flatMap(({ labels }) => labels);
    const labels = new Map(every.map(({ name, title }): [string, string] => [name, title]));
    const filters = make("div", "filters");
    filters.append(
      field(
        "Scene",
        choice([["", "Every scene"], ...scenes], "", (id) => this.filter("scene", id)),
      ),
      field("User", user),
      field(
        "Label",
        choice([["", "Every label"], ...labels], "", (name) => this.filter("label", name)),
      ),
      button("My tags", () => {
        user.value = desk.session.user.name;
        this.filter("user", user.value);
      }),
    );
    this.count.setAttribute("aria-live", "polite");
    this.element.append(filters, this.fixes, this.count, this.grid, this.more);
  }

  get keys(): Key[] {
    const tag = this.tags[this.chosen];
    const found = (this.newest(tag)?.labels ?? []).map((label) =>
      key(label.key, `Correct to ${label.title}`, () => this.correct(label.name)),
    );
    return [
      ...found,
      key("Del", "Take the tag back", () => this.correct(null), "delete", "backspace"),
      key("←", "The tag before", () => this.choose(this.chosen - 1, true), "arrowleft"),
      key("→", "The next tag", () => this.choose(this.chosen + 1, true), "arrowright"),
      key("↑", "The row above", () => this.choose(this.chosen - this.across(), true), "arrowup"),
      key("↓", "The row below", () => this.choose(this.chosen + this.across(), true), "arrowdown"),
      key("O", "Open its scene there", () => tag && openScene(tag)),
    ];
  }

  open(): void {
    this.stop = this.desk.outbox.listen({
      refused: (entry, why) => {
        if (entry.kind !== "tag") return;
        warn(why);
        void this.load(false);
      },
    });
    void this.load(false);
  }

  close(): void {
    this.stop();
  }

  private filter(name: "scene" | "user" | "label", value: string): void {
    this.wanted[name] = value;
    void this.load(false);
  }

  private async load(on: boolean): Promise<void> {
    const asked = ++this.asked;
    try {
      if (!on) await this.desk.outbox.send();
      const last = on ? this.tags.at(-1) : undefined;
      const from = { before: last?.made_at, before_id: last?.id };
      const query = { ...this.wanted, ...from, limit: AT_ONCE };
      const { tags, more } = await get<{ tags: Tag[]; more: boolean }>("/tags", query);
      if (asked !== this.asked) return;
      this.tags = on ? [...this.tags, ...tags] : tags;
      this.more.hidden = !more;
      this.count.textContent = this.tags.length ? "" : "No tags.";
      this.fill();
      if (!on) this.choose(0, false);
    } catch (failure) {
      warn(failure);
    }
  }

  private fill(): void {
    this.grid.replaceChildren(...this.tags.map((tag, place) => this.card(tag, place)));
    this.choose(this.chosen, false);
  }

  private card(tag: Tag, place: number): HTMLElement {
    const { labelVersions } = this.desk;
    const title = titleOf(labelVersions, tag.label_set, tag.label);
    const label = make("b", "", swatch(colourOf(labelVersions, tag.label_set, tag.label)), title);
    const facts = make("span", "soft", `${tag.user}, ${moment(tag.made_at)}`);
    const made = make("button", "card", chipPicture(tag.chip, `Chip of ${where(tag)}`), label);
    made.type = "button";
    made.append(make("span", "soft", tag.scene_name), facts);
    made.addEventListener("click", () => this.choose(place, false));
    made.addEventListener("focus", () => this.choose(place, false));
    return make("li", "", made);
  }

  private cards(): HTMLElement[] {
    return [...this.grid.querySelectorAll<HTMLElement>(".card")];
  }

  private across(): number {
    const cards = this.cards();
    const top = cards[0]?.offsetTop;
    const below = cards.findIndex((card) => card.offsetTop !== top);
    return below < 0 ? cards.length : below;
  }

  private choose(place: number, focus: boolean): void {
    const cards = this.cards();
    this.chosen = Math.min(Math.max(place, 0), Math.max(cards.length - 1, 0));
    cards.forEach((card, at) => {
      card.classList.toggle("chosen", at === this.chosen);
      card.tabIndex = at === this.chosen ? 0 : -1;
    });
    if (focus) cards[this.chosen]?.focus();
    this.offer();
  }

  /** The buttons that change the chosen tag. */
  private offer(): void {
    const tag = this.tags[this.chosen];
    this.fixes.replaceChildren();
    if (!tag) return;
    const may = this.may(tag);
    const newest = this.newest(tag);
    const fixes = (newest?.labels ?? []).map((label) => {
      const made = button("", () => this.correct(label.name), "label", label.key);
      made.prepend(swatch(label.colour), label.title);
      const same = label.name === tag.label && newest?.id === tag.label_set;
      made.setAttribute("aria-pressed", String(same));
      made.disabled = !may;
      return made;
    });
    const gone = button("Take back", () => this.correct(null), "label", "Del");
    gone.disabled = !may;
    const told = may ? where(tag) : `${where(tag)}: only ${tag.user} or a reviewer changes it`;
    this.fixes.append(make("p", "", told, this.age(tag)), ...fixes, gone);
    this.fixes.append(button("Open its scene", () => openScene(tag), "label", "O"));
  }

  /** The newest version of the set that a tag's label is of. */
  private newest(tag: Tag | undefined): LabelSet | undefined {
    const own = this.desk.labelVersions.find(({ id }) => id === tag?.label_set);
    return this.desk.labelSets.find(({ name }) => name === own?.name);
  }

  /** What is told of a label that is of an older version. */
  private age(tag: Tag): string {
    const own = this.desk.labelVersions.find(({ id }) => id === tag.label_set);
    const newest = this.newest(tag);
    if (!own || !newest || own === newest) return "";
    const title = titleOf([own], own.id, tag.label);
    return ` · ${title} is of version ${own.version} of ${own.name}; version ${newest.version} has:`;
  }

  private may(tag: Tag): boolean {
    return this.desk.may("reviewer") || (tag.mine && this.desk.may("tagger"));
  }

  private correct(label: string | null): void {
    const tag = this.tags[this.chosen];
    const set = label === null ? tag?.label_set : this.newest(tag)?.id;
    if (!tag || (tag.label === label && tag.label_set === set)) return;
    if (!this.may(tag)) return warn(`Only ${tag.user} or a reviewer changes this tag.`);
    const made = correctTag(this.desk.outbox, this.desk.session.user.name, tag, label, set);
    if (label === null) this.tags.splice(this.chosen, 1);
    else this.tags[this.chosen] = made;
    const had = this.grid.contains(document.activeElement);
    this.fill();
    this.choose(this.chosen, had);
    const title = titleOf(this.desk.labelVersions, made.label_set, label);
    tell(label === null ? "Taken back." : `Now ${title}.`);
  }
}

function openScene(tag: Tag): void {
  const [row, col, side] = tag.square ?? [];
  const place = side ? `&row=${row}&col=${col}&side=${side}` : "";
  location.hash = `#/tag?scene=${tag.scene}${place}`;
}
