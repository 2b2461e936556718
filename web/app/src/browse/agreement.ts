/** How far taggers agree, and the chips where they do not. */

import { get } from "../api";
import type { Agreement, Disagreement, Label, LabelSet } from "../contract";
import type { Key } from "../keys";
import { tell, warn } from "../messages";
import { button, choice, decimals, field, figure, make, swatch, table } from "../page";
import type { Desk } from "../shell";
import { colourOf, titleOf } from "../tag/label_bar";
import { correctTag } from "../tag/put";
import { chipPicture } from "./chip";

const MOST = 100;

export class AgreementView {
  readonly element = make("div", "agreement");
  readonly keys: Key[] = [];
  private readonly numbers = make("section");
  private readonly chips = make("section");
  private set: LabelSet | undefined;
  private stop = (): void => {};

  constructor(private readonly desk: Desk) {
    this.set = desk.labelSets[0];
    const sets = desk.labelSets.map(({ id, name }): [string, string] => [String(id), name]);
    const select = choice(sets, String(this.set?.id), (id) => {
      this.set = desk.labelSets.find((set) => String(set.id) === id);
      void this.load();
    });
    this.element.append(make("div", "filters", field("Label set", select)));
    this.element.append(this.numbers, this.chips);
  }

  open(): void {
    this.stop = this.desk.outbox.listen({
      refused: (entry, why) => {
        if (entry.kind !== "tag") return;
        warn(why);
        void this.load();
      },
    });
    void this.load();
  }

  close(): void {
    this.stop();
  }

  private async load(): Promise<void> {
    if (!this.set) return;
    try {
      await this.desk.outbox.send();
      this.fill(await get<Agreement>("/agreement", { label_set: this.set.id }));
    } catch (failure) {
      warn(failure);
    }
  }

  private fill({ pairs, overall, disagreements }: Agreement): void {
    const kappa = (value: number | null): string =>
      value === null ? "not defined" : decimals(value, 2);
    const all = make("p", "", "All pairs together: ");
    all.append(make("b", "", `κ ${kappa(overall.kappa)}`));
    all.append(`, the same label on ${figure(overall.same)} of ${figure(overall.both)} chips`);
    const rows = pairs.map(({ first, second, both, same, kappa: value }) => [
      first,
      second,
      figure(both),
      figure(same),
      both ? `${Math.round((100 * same) / both)} %` : "–",
      kappa(value),
    ]);
    const heads = ["First", "Second", "Chips of both", "Same label", "Agreement", "Cohen's κ"];
    this.numbers.replaceChildren(make("h2", "", "Agreement"), all);
    if (rows.length) this.numbers.append(table(heads, rows));
    else this.numbers.append(make("p", "soft", "No two people have tagged the same chip yet."));

    const count = disagreements.length;
    this.chips.replaceChildren(make("h2", "", `Disagreements (${figure(count)})`));
    const list = make("ul", "disputes plain");
    list.append(...disagreements.slice(0, MOST).map((dispute) => this.dispute(dispute)));
    this.chips.append(count ? list : make("p", "soft", "None."));
    if (count > MOST) this.chips.append(make("p", "soft", `The first ${MOST} are shown.`));
  }

  private dispute(dispute: Disagreement): HTMLElement {
    const { labelVersions, scenes } = this.desk;
    const set = this.set!;
    const scene = scenes.find(({ id }) => id === dispute.scene)?.name ?? `scene ${dispute.scene}`;
    const [line, column] = dispute.square;
    const made = make("li", "dispute", chipPicture(dispute.chip, `Chip of ${scene}`));
    const words = make("div", "", make("p", "soft", `${scene}, row ${line}, column ${column}`));
    for (const { user, label } of dispute.said) {
      const colour = swatch(colourOf(labelVersions, set.id, label));
      words.append(
        make("p", "", colour, `${user}: `, make("b", "", titleOf(labelVersions, set.id, label))),
      );
    }
    const buttons = make("div", "buttons");
    for (const label of set.labels) {
      const settle = button("", () => this.settle(dispute, label, made), "label");
      settle.prepend(swatch(label.colour), label.title);
      settle.setAttribute("aria-label", `Settle as ${label.title}`);
      settle.disabled = !this.changeable(dispute, label.name).length;
      buttons.append(settle);
    }
    words.append(buttons);
    made.append(words);
    return made;
  }

  /** The tags that say something else and that the user may correct. */
  private changeable(dispute: Disagreement, label: string): Disagreement["said"] {
    const { may, session } = this.desk;
    const mine = (user: string): boolean => user === session.user.name && may("tagger");
    return dispute.said.filter(
      (said) => said.label !== label && (may("reviewer") || mine(said.user)),
    );
  }

  private settle(dispute: Disagreement, label: Label, made: HTMLElement): void {
    const { outbox, session, scenes } = this.desk;
    const scene_name = scenes.find(({ id }) => id === dispute.scene)?.name ?? "";
    for (const said of this.changeable(dispute, label.name)) {
      const old = {
        id: said.tag,
        scene: dispute.scene,
        scene_name,
        square: dispute.square,
        polygon: null,
        chip: dispute.chip,
        label: said.label,
        label_set: this.set!.id,
        user: said.user,
        made_at: "",
        replaces: null,
        mine: said.user === session.user.name,
      };
      correctTag(outbox, session.user.name, old, label.name);
    }
    tell(`Settled as ${label.title}.`);
    const next = made.nextElementSibling?.querySelector("button") ?? null;
    made.remove();
    next?.focus();
  }
}
