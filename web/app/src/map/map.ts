/** The page where a run's buildings are reviewed. */

import { get, link } from "../api";
import type { Building, Code, Run, Scene, Verdict } from "../contract";
import { type Key, key } from "../keys";
import { tell, warn } from "../messages";
import { newId } from "../outbox";
import { button, choice, counted, field, make } from "../page";
import { Picture, toGeometry } from "../picture";
import { PhotoPoints } from "../photo_points";
import type { Desk, Page } from "../shell";
import { type View, Views, madeAnew } from "../views";
import { Buildings } from "./buildings";
import { Card, LEVELS } from "./card";
import { CountTable } from "./counts";
import { buildingFilters } from "./filters";
import { PhotoMap, isPlaced } from "./photo_map";

/** Width of the card with its margins, px. */
const CARD = 354;

const FORMATS: [string, string][] = [
  ["gpkg", "GeoPackage"],
  ["geojson", "GeoJSON"],
  ["csv", "CSV"],
];

export function mapPage(desk: Desk, query: URLSearchParams): Page {
  const element = make("div", "mapping");
  let views: Views | null = null;
  let closed = false;
  const start = async (): Promise<void> => {
    const [runs, legend, scenes] = await Promise.all([
      get<Run[]>("/runs"),
      get<Code[]>("/legend"),
      get<Scene[]>("/scenes"),
    ]);
    if (closed) return;
    desk.scenes = scenes;
    const wanted = runs.find(({ id }) => String(id) === query.get("run")) ?? runs[0];
    const photos = scenes.filter(isPlaced);
    const review = madeAnew(() => new Reviewing(desk, runs, legend, wanted!));
    const plain = madeAnew(() => new PhotoMap(photos));
    if (!wanted && !photos.length) {
      element.append(make("p", "nothing", "No runs yet. `aftermap catalog add RUN` adds one."));
      return;
    }
    const shown: [string, View][] = [];
    if (wanted) shown.push(["Runs", review]);
    if (photos.length) shown.push(["Photos", plain]);
    const first = photos.length && query.get("part") === "photos" ? plain : shown[0]![1];
    views = new Views(shown, first);
    if (shown.length > 1) element.append(views.buttons);
    element.append(views.inside);
  };
  start().catch(warn);
  return {
    element,
    get keys() {
      return views?.keys ?? [];
    },
    close: () => {
      closed = true;
      views?.close();
    },
  };
}

class Reviewing implements Page {
  readonly element = make("div", "reviewing");
  private readonly buildings: Buildings;
  private readonly photos = new PhotoPoints();
  private readonly picture: Picture;
  private readonly card: Card;
  private readonly counts: CountTable;
  private readonly count = make("p", "soft");
  private readonly exports = make("div", "buttons");
  private readonly done: Building[] = [];
  private readonly stop: () => void;
  private readonly onward = make("input");
  private readonly pick: HTMLSelectElement;
  private run: Run | undefined;
  private chosen: Building | null = null;
  /** The last that "next" led to: the following one comes after it. */
  private last = "";

  constructor(
    private readonly desk: Desk,
    runs: Run[],
    legend: Code[],
    first: Run,
  ) {
    const told = (count: number, more: boolean): void => {
      const shown = `${counted(count, "building")} in sight`;
      this.count.textContent = more ? `The first ${shown}: come closer to see all.` : `${shown}.`;
    };
    this.buildings = new Buildings(legend, desk.outbox, told, warn);
    const { layer, chosenLayer } = this.buildings;
    this.picture = new Picture([layer, chosenLayer, this.photos.layer]);
    this.buildings.listen(this.picture);
    this.picture.map.on("singleclick", ({ pixel }) => {
      if (this.photos.pick(this.picture.map, pixel)) return;
      this.choose(this.buildings.under(this.picture, pixel));
    });
    const acts = {
      accept: () => this.say("accepted"),
      correct: (code: number) => this.say("corrected", code),
      reject: () => this.say("rejected"),
      undo: () => this.undo(),
      close: () => this.choose(null),
    };
    this.card = new Card(legend, acts, desk.may("reviewer"));
    this.counts = new CountTable(legend);
    this.stop = desk.outbox.listen({
      sent: (entry) => entry.kind === "review" && void this.counts.load(),
      refused: (entry, why) => entry.kind === "review" && this.refused(entry.body.building_id, why),
      revived: () => this.buildings.soon(this.picture),
    });
    const names = runs.map((run): [string, string] => [String(run.id), nameOf(run)]);
    this.pick = choice(names, "", (id) => this.open(runs.find((run) => String(run.id) === id)!));
    const filters = buildingFilters(legend, (wanted) => {
      this.buildings.wanted = wanted;
      this.buildings.soon(this.picture);
    });
    this.onward.type = "checkbox";
    this.onward.checked = true;
    const next = button("Next unreviewed", () => void this.next(), "main", "N");
    const onward = make("label", "check", this.onward, "Go on by itself after each verdict");
    const panel = make(
      "aside",
      "panel",
      field("Run", this.pick),
      next,
      onward,
      this.counts.element,
    );
    panel.append(make("h2", "", "Shown"), filters, this.count);
    panel.append(make("h2", "", "Accepted and corrected buildings"), this.exports);
    if (!desk.may("reviewer")) next.after(make("p", "soft", "A reviewer's role gives verdicts."));
    this.picture.element.append(make("div", "tools", this.picture.swipe.controls));
    this.picture.element.append(this.card.element);
    this.picture.covered = CARD;
    this.count.setAttribute("aria-live", "polite");
    this.element.append(this.picture.element, panel);
    // A map is as large as its place in the page.
    queueMicrotask(() => this.open(first));
  }

  get keys(): Key[] {
    return [
      key("A", "Accept the building as it is", () => this.say("accepted")),
      ...LEVELS.map((code) =>
        key(String(code), `Correct to level ${code}`, () => this.say("corrected", code)),
      ),
      key("R", "Reject: no such building", () => this.say("rejected")),
      key("U", "Undo the last verdict", () => this.undo(), "u", "ctrl+z"),
      key("N", "Next unreviewed, the most uncertain first", () => void this.next()),
      key("Esc", "Let go of the building", () => this.choose(null), "escape"),
      ...this.picture.keys(),
    ];
  }

  private open(run: Run): void {
    this.run = run;
    this.pick.value = String(run.id);
    this.last = "";
    this.done.length = 0;
    this.choose(null);
    const scene = this.desk.scenes.find(({ id }) => id === run.scene);
    const [, , width = 1, height = 1] = run.bounds_px ?? [];
    const sheet = { id: -1, width, height, levels: 0, before_id: null };
    if (run.problem) warn(run.problem);
    else if (!scene)
      tell("This run's image is not in the catalog: its buildings lie on an empty sheet.");
    this.buildings.use(run.id);
    this.picture.show(scene ?? sheet);
    this.photos.load(scene?.id).catch(warn);
    this.buildings.soon(this.picture);
    this.counts.use(run.id);
    this.exports.replaceChildren(
      ...FORMATS.map(([format, title]) => {
        const made = make("a", "button", title);
        made.href = link(`/runs/${run.id}/accepted`, { format });
        made.download = "";
        return made;
      }),
    );
  }

  close(): void {
    this.stop();
    this.counts.close();
    this.buildings.close();
    this.picture.close();
  }

  private choose(building: Building | null): void {
    this.chosen = building;
    this.buildings.choose(building);
    this.card.show(building);
  }

  private say(verdict: Verdict, code: number | null = null): void {
    const building = this.chosen;
    if (!building) return warn("Choose a building first: N, or a click.");
    if (!this.desk.may("reviewer")) return warn("A reviewer's role gives verdicts.");
    const same = verdict === "corrected" && code === building.properties.damage_class;
    this.done.push(building);
    if (same) this.put(building, "accepted", null);
    else this.put(building, verdict, code);
    if (this.onward.checked) void this.next();
  }

  private put(building: Building, verdict: Verdict | null, code: number | null): void {
    const { outbox, session } = this.desk;
    const after = building.properties.review?.number ?? 0;
    outbox.put({
      kind: "review",
      title: `${building.id}: ${verdict ?? "taken back"}`,
      run: this.run!.id,
      body: { id: newId(), building_id: building.id, verdict, damage_class: code, after },
    });
    const kept = verdict === "accepted" ? building.properties.damage_class : code;
    const review = { number: after + 1, verdict, damage_class: kept, user: session.user.name };
    const now = { ...building, properties: { ...building.properties, review } };
    this.buildings.update(now);
    this.choose(now);
  }

  /** Says again what was said before, or nothing. */
  private undo(): void {
    const before = this.done.pop();
    if (!before) return tell("There is no verdict of yours to take back.");
    const review = before.properties.review;
    const number = (review?.number ?? 0) + 1;
    const now = {
      ...before,
      properties: { ...before.properties, review: asNumber(review, number) },
    };
    const code = review?.verdict === "corrected" ? review.damage_class : null;
    this.put(now, review?.verdict ?? null, code);
    this.picture.reveal(toGeometry(before.geometry).getExtent(), false);
    tell(`Undone: ${before.id}.`);
  }

  private async next(): Promise<void> {
    const { run } = this;
    if (!run) return;
    try {
      await this.desk.outbox.send();
      const query = { after: this.last, order: "uncertain" };
      const next = await get<Building | null>(`/runs/${run.id}/buildings/next`, query);
      if (run !== this.run) return;
      const found = next && this.buildings.pending(next);
      if (!found || found.properties.review?.verdict) {
        tell("Every building of this run is reviewed.");
        return;
      }
      this.last = found.id;
      this.buildings.update(found);
      this.choose(found);
      this.picture.reveal(toGeometry(found.geometry).getExtent(), true);
    } catch (failure) {
      warn(failure);
    }
  }

  private refused(building: string, why: Error): void {
    warn(why);
    if (this.chosen?.id === building) this.choose(null);
    this.buildings.soon(this.picture);
  }
}

function asNumber(
  review: Building["properties"]["review"],
  number: number,
): Building["properties"]["review"] {
  return { user: "", damage_class: null, verdict: null, ...review, number };
}

function nameOf(run: Run): string {
  return `${run.scene_name ?? run.path_name}, ${run.method} (${run.run_id.slice(0, 8)})`;
}
