/** The page where places get their labels. */

import { get, post } from "../api";
import type { Label, Place, Saying, Scene, Tag } from "../contract";
import { type Key, key } from "../keys";
import { tell, warn } from "../messages";
import type { TagEntry } from "../outbox";
import { button, decimals, field, make } from "../page";
import { Picture, extentOf } from "../picture";
import { PhotoPoints } from "../photo_points";
import type { Desk, Page } from "../shell";
import { LabelBar, titleOf } from "./label_bar";
import { Marks } from "./marks";
import { Outline } from "./outline";
import { type Said, correctTag, putTag, where } from "./put";
import { SceneList } from "./scene_list";
import { Square } from "./square";
import { Suggestions } from "./suggestions";

/** The side of the squares that paper 003's network looks at, px. */
const SIDE = 299;
const PAUSE = 250;

export function tagPage(desk: Desk, query: URLSearchParams): Page {
  const page = new Tagging(desk);
  queueMicrotask(() => void page.begin(query));
  return page;
}

class Tagging implements Page {
  readonly element = make("div", "tagging");
  private readonly marks: Marks;
  private readonly photos = new PhotoPoints();
  private readonly square: Square;
  private readonly outline: Outline;
  private readonly picture: Picture;
  private readonly list: SceneList;
  private readonly labels: LabelBar;
  private readonly suggestions = new Suggestions();
  private readonly side = make("input");
  private readonly about = make("p", "about");
  private readonly said = make("p", "said");
  private readonly drawing: HTMLButtonElement;
  private readonly hiding: HTMLButtonElement;
  private readonly done: { tag: Tag; before: Tag | undefined }[] = [];
  private readonly stop: () => void;
  private scene: Scene | undefined;
  /** The one that is opened, or to be opened once it is fetched. */
  private wanted: Scene | undefined;
  /** Of the last tag, which may wait for the others of its scene. */
  private waiting: Promise<void> = Promise.resolve();
  /** Whether the squares come from the suggestions, and not one beside the other. */
  private following = false;
  private timer = 0;
  private closed = false;

  constructor(private readonly desk: Desk) {
    const may = desk.may("tagger");
    this.marks = new Marks(desk.labelVersions, desk.outbox);
    this.square = new Square(SIDE, (place) => this.moved(place));
    this.outline = new Outline(
      () => this.picture,
      () => tell("Now give the polygon its label."),
    );
    const { marks, photos, square, outline } = this;
    this.picture = new Picture([marks.layer, photos.layer, square.layer, outline.layer]);
    square.listen(this.picture);
    this.picture.map.on("click", ({ pixel, coordinate }) => {
      if (!outline.active && !photos.pick(this.picture.map, pixel)) square.click(coordinate);
    });
    this.list = new SceneList((scene) => {
      this.following = false;
      this.element.classList.remove("choosing");
      this.open(scene).catch(warn);
    });
    this.labels = new LabelBar(
      desk.labelSets,
      (label) => this.put(label),
      may,
      () => {},
    );
    this.stop = desk.outbox.listen({
      sent: (entry) => entry.kind === "tag" && this.recount(entry),
      refused: (entry, why) => {
        if (entry.kind !== "tag") return;
        warn(why);
        this.reload();
      },
      revived: () => this.reload(),
    });

    this.side.type = "number";
    this.side.min = "16";
    this.side.max = "4096";
    this.side.value = String(SIDE);
    this.side.addEventListener("change", () => this.square.resize(this.side.valueAsNumber));
    this.said.setAttribute("aria-live", "polite");
    this.drawing = button("Polygon", () => this.draw(), "", "P");
    this.hiding = button("Hide tags", () => this.toggle(), "", "T");
    const tools = make("div", "buttons");
    tools.append(
      button("Next suggestion", () => void this.suggest(), "", "S"),
      button("What does the model say?", () => void this.ask(), "", "W"),
      this.drawing,
      button("Undo", () => void this.undo(), "", "U"),
      this.hiding,
    );
    const choose = button("Scenes", () => this.element.classList.toggle("choosing"), "choose");
    const panel = make("aside", "panel", this.labels.element, tools);
    panel.append(field("Side of the square, px", this.side), this.about, this.said);
    if (!may) panel.prepend(make("p", "soft", "Viewers see tags; a tagger's role puts them."));
    this.picture.element.append(make("div", "tools", choose, this.picture.swipe.controls));
    this.element.append(this.list.element, this.picture.element, panel);
  }

  get keys(): Key[] {
    const moves = this.outline.active ? this.outline.keys() : this.square.keys();
    const leave = key("Esc", "Leave the polygon", () => this.draw(), "escape");
    return [
      ...this.labels.keys(),
      key("S", "Next suggestion", () => void this.suggest()),
      key("W", "What does the model say?", () => void this.ask()),
      key("P", "Draw a polygon, or stop drawing", () => this.draw()),
      key("T", "Hide or show the tags", () => this.toggle()),
      key("U", "Undo: take the last tag back", () => void this.undo(), "u", "ctrl+z"),
      ...moves,
      ...(this.outline.active ? [leave] : []),
      ...this.picture.keys(),
    ];
  }

  async begin(query: URLSearchParams): Promise<void> {
    const { desk } = this;
    desk.scenes = await get<Scene[]>("/scenes").catch(() => desk.scenes);
    if (this.closed) return;
    const { scenes } = desk;
    this.list.use(scenes);
    const wanted = scenes.find(({ id }) => String(id) === query.get("scene")) ?? scenes[0];
    if (!wanted) {
      warn("The catalog has no scenes yet. `aftermap catalog add` adds images.");
      return;
    }
    await this.open(wanted).catch(warn);
    const [row, col, side] = ["row", "col", "side"].map((name) => Number(query.get(name)));
    if (side) this.go([row!, col!, side]);
  }

  close(): void {
    this.closed = true;
    this.stop();
    clearTimeout(this.timer);
    this.picture.close();
  }

  private async open(scene: Scene): Promise<void> {
    if (this.outline.active) this.draw();
    this.wanted = scene;
    this.list.mark(scene);
    if (!scene.levels) {
      tell(`${scene.name} is fetched now.`);
      this.scene = undefined; // what is said meanwhile is said of neither
      Object.assign(scene, await get<Scene>(`/scenes/${scene.id}`));
      if (this.closed || this.wanted !== scene) return;
    }
    this.scene = scene;
    this.picture.show(scene);
    this.square.enter(scene);
    this.marks.show(scene.id).catch(warn);
    this.photos.load(scene.id).catch(warn);
  }

  private reload(): void {
    if (this.scene) this.marks.show(this.scene.id).catch(warn);
  }

  private go(place: Place): void {
    this.square.hold(place);
    this.side.value = String(place[2]);
    this.picture.reveal(extentOf(this.square.place), true);
  }

  private put(label: Label): void {
    const { scene, labels, outline, desk } = this;
    const user = desk.session.user.name;
    if (!scene || !labels.chosen) return;
    const said = { scene, labelSet: labels.chosen.id, label: label.name, title: label.title };
    if (outline.active) {
      const { polygon } = outline;
      if (!polygon) return warn("Finish the polygon first: Enter, or a double click.");
      this.keep(putTag(desk.outbox, user, { ...said, polygon }));
      outline.clear();
      return;
    }
    const square = this.square.place;
    const failed = ({ message }: Error): void => warn(`Not tagged as ${label.title}: ${message}`);
    this.waiting = this.putSquare({ ...said, square }, labels.chosen.name).catch(failed);
    if (this.following) void this.suggest();
    else this.step();
  }

  /** Once the scene's tags are there: one of them may be the user's own of the same square. */
  private async putSquare(said: Said & { square: Place }, set: string): Promise<void> {
    const { desk, marks } = this;
    await marks.ready(said.scene.id);
    const user = desk.session.user.name;
    const before = marks.own(said.scene.id, said.square, set);
    if (before?.label === said.label && before.label_set === said.labelSet) return;
    const tag = before
      ? correctTag(desk.outbox, user, before, said.label, said.labelSet)
      : putTag(desk.outbox, user, said);
    this.keep(tag, before);
  }

  private keep(tag: Tag, before?: Tag): void {
    this.marks.put(tag);
    this.done.push({ tag, before });
  }

  private step(): void {
    if (this.square.next()) this.picture.reveal(extentOf(this.square.place), false);
    else tell("This is the scene's last square.");
  }

  private async suggest(): Promise<void> {
    try {
      const next = await this.suggestions.next();
      const scene = this.desk.scenes.find(({ id }) => id === next?.scene);
      this.following = scene !== undefined;
      if (!next || !scene) {
        tell("There are no suggestions. Learning from the tags, on Progress, makes new ones.");
        return;
      }
      if (scene !== this.scene) await this.open(scene);
      this.go(next.square);
      this.said.textContent = `Suggested: ${next.reason}, score ${decimals(next.score, 2)}`;
    } catch (failure) {
      warn(failure);
    }
  }

  private async ask(): Promise<void> {
    const { scene } = this;
    if (!scene) return;
    const square = this.square.place;
    this.said.textContent = "Asking the model …";
    const words = await post<Saying>(`/scenes/${scene.id}/says`, { square }).then(
      ({ model, method, label, score, threshold }) =>
        `Model ${model}, ${method}: ${label}, score ${decimals(score, 2)} ` +
        `(threshold ${decimals(threshold, 2)})`,
      (failure: Error) => failure.message,
    );
    // Meanwhile another square may be looked at.
    const same = this.scene === scene && this.square.place.join() === square.join();
    if (same) this.said.textContent = words;
  }

  private draw(): void {
    if (this.outline.active) this.outline.stop();
    else this.outline.start();
    const { active } = this.outline;
    this.square.show(!active);
    this.drawing.setAttribute("aria-pressed", String(active));
    // Enter and space now belong to the drawing.
    this.drawing.blur();
  }

  /** What others said should not always be seen by who judges for themself. */
  private toggle(): void {
    const { layer } = this.marks;
    layer.setVisible(!layer.getVisible());
    this.hiding.setAttribute("aria-pressed", String(!layer.getVisible()));
  }

  private async undo(): Promise<void> {
    const user = this.desk.session.user.name;
    await this.waiting;
    const last = this.done.pop() ?? (await this.latest(user));
    if (!last) return tell("There is no tag of yours to take back.");
    const { tag, before } = last;
    const label = before?.label ?? null;
    this.marks.put(correctTag(this.desk.outbox, user, tag, label, before?.label_set));
    const told = before ? titleOf(this.desk.labelVersions, before.label_set, label) : "no tag";
    tell(`Undone: ${where(tag)} has ${told} again.`);
    if (tag.square && tag.scene === this.scene?.id) this.square.hold(tag.square);
  }

  /** The last tag of an earlier visit. */
  private async latest(user: string): Promise<{ tag: Tag; before?: undefined } | undefined> {
    try {
      const { tags } = await get<{ tags: Tag[] }>("/tags", { user, limit: 1 });
      return tags[0] && { tag: tags[0] };
    } catch (failure) {
      warn(failure);
      return undefined;
    }
  }

  private recount({ body }: TagEntry): void {
    const scene = this.desk.scenes.find(({ id }) => id === body.scene);
    if (!scene) return;
    if (!body.replaces) scene.tags += 1;
    else if (body.label === null) scene.tags -= 1;
    this.list.recount(scene);
  }

  private moved(place: Place): void {
    clearTimeout(this.timer);
    this.said.textContent = "";
    const [row, col, side] = place;
    this.about.textContent = `Row ${row}, column ${col}`;
    const { scene } = this;
    if (scene?.kind !== "raster") return;
    this.timer = setTimeout(async () => {
      const query = { x: col + side / 2, y: row + side / 2 };
      type Found = { lon: number; lat: number } | null;
      const found = await get<Found>(`/scenes/${scene.id}/lonlat`, query).catch(() => null);
      if (!found || this.square.place.join() !== place.join()) return;
      const [lat, lon] = [decimals(found.lat, 5), decimals(found.lon, 5)];
      this.about.textContent = `Row ${row}, column ${col} · lat ${lat}, lon ${lon}`;
    }, PAUSE);
  }
}
