/** The buildings of a run on the map: those in sight, in the legend's colours. */

import Feature from "ol/Feature";
import { getArea } from "ol/extent";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { get } from "../api";
import type { Building, Code, Review, Verdict } from "../contract";
import type { Outbox } from "../outbox";
import { type Picture, toGeometry } from "../picture";

const AT_ONCE = 5_000;
const CASING = "rgba(15, 20, 26, 0.75)";
const PAUSE = 150;
/** Mean side of the buildings on the screen, px, below which edges would hide them and the picture. */
const SMALL = 14;

export interface Wanted {
  classes: string;
  least_score: string;
  reviewed: string;
}

export class Buildings {
  readonly layer: VectorLayer;
  readonly chosenLayer: VectorLayer;
  wanted: Wanted = { classes: "", least_score: "", reviewed: "any" };
  private readonly source = new VectorSource();
  private readonly chosenSource = new VectorSource();
  private readonly colours: Map<number, string>;
  private readonly looks = new Map<string, Style[]>();
  /** Mean side of the buildings in sight, px of the scene. */
  private side = Infinity;
  private run = -1;
  private timer = 0;
  private asking = new AbortController();

  constructor(
    legend: Code[],
    private readonly outbox: Outbox,
    private readonly told: (count: number, more: boolean) => void,
    private readonly failed: (why: unknown) => void,
  ) {
    this.colours = new Map(legend.map(({ code, colour }) => [code, colour]));
    const style = (feature: { get: (name: string) => unknown }, resolution: number): Style[] =>
      this.styles(feature.get("building") as Building, this.side < SMALL * resolution);
    this.layer = new VectorLayer({ source: this.source, style });
    this.chosenLayer = new VectorLayer({ source: this.chosenSource, style: chosenStyle() });
  }

  listen(picture: Picture): void {
    picture.map.on("moveend", () => this.soon(picture));
  }

  use(run: number): void {
    this.run = run;
    this.source.clear();
    this.choose(null);
  }

  close(): void {
    clearTimeout(this.timer);
    this.asking.abort();
  }

  soon(picture: Picture): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.load(picture), PAUSE);
  }

  under(picture: Picture, pixel: number[]): Building | null {
    const options = { layerFilter: (layer: unknown) => layer === this.layer, hitTolerance: 6 };
    const found = picture.map.forEachFeatureAtPixel(pixel, (feature) => feature, options);
    return (found?.get("building") as Building | undefined) ?? null;
  }

  choose(building: Building | null): void {
    this.chosenSource.clear();
    if (building) this.chosenSource.addFeature(new Feature(toGeometry(building.geometry)));
  }

  /** A building as it is now, whether it was in sight before or not. */
  update(building: Building): void {
    const known = this.source.getFeatureById(building.id);
    if (known) known.set("building", building);
    else this.source.addFeature(featureOf(building));
  }

  /** What was said and is not sent yet counts as said. */
  pending(building: Building): Building {
    for (const entry of this.outbox.entries()) {
      if (entry.kind !== "review" || entry.refused || entry.run !== this.run) continue;
      const { building_id, verdict, damage_class, after } = entry.body;
      if (building_id !== building.id) continue;
      const review: Review = {
        number: after + 1,
        verdict,
        damage_class,
        user: "you, not sent yet",
      };
      building = { ...building, properties: { ...building.properties, review } };
    }
    return building;
  }

  private async load(picture: Picture): Promise<void> {
    const { map } = picture;
    const size = map.getSize();
    if (this.run < 0 || !size) return;
    this.asking.abort();
    this.asking = new AbortController();
    const [west = 0, south = 0, east = 0, north = 0] = map.getView().calculateExtent(size);
    const box = { x0: west, y0: -north, x1: east, y1: -south };
    try {
      const found = await get<{ features: Building[]; more: boolean }>(
        `/runs/${this.run}/buildings`,
        { ...box, ...this.wanted, limit: AT_ONCE },
        this.asking.signal,
      );
      const features = found.features.map((one) => featureOf(this.pending(one)));
      this.side = meanSide(features);
      this.source.clear(true);
      this.source.addFeatures(features);
      this.told(found.features.length, found.more);
    } catch (failure) {
      if ((failure as Error).name !== "AbortError") this.failed(failure);
    }
  }

  private styles(building: Building, small: boolean): Style[] {
    const verdict = building.properties.review?.verdict ?? null;
    const code = classOf(building);
    const name = `${verdict} ${code} ${small}`;
    let look = this.looks.get(name);
    if (!look) {
      const colour = this.colours.get(code) ?? "#888888";
      look = small ? smallLookOf(colour, verdict) : lookOf(colour, verdict);
      this.looks.set(name, look);
    }
    return look;
  }
}

/** What was reviewed has a white edge; what was rejected is only that edge, in dots. */
function lookOf(colour: string, verdict: Verdict | null): Style[] {
  const line = (color: string, width: number, lineDash?: number[]): Style =>
    new Style({ stroke: new Stroke({ color, width, ...(lineDash ? { lineDash } : {}) }) });
  // Without a fill a click inside would find nothing.
  const hollow = new Style({ fill: new Fill({ color: "rgba(0, 0, 0, 0.01)" }) });
  if (verdict === "rejected") return [hollow, line(CASING, 6), line("#ffffff", 3, [3, 5])];
  const filled = new Style({ fill: new Fill({ color: `${colour}59` }) });
  const edge = verdict ? [line(CASING, 7), line("#ffffff", 5)] : [line(CASING, 4)];
  return [filled, ...edge, line(colour, 2.2)];
}

/** From far away: the colour alone, with a thin white edge where it was reviewed. */
function smallLookOf(colour: string, verdict: Verdict | null): Style[] {
  const fill = new Fill({ color: verdict === "rejected" ? "rgba(0, 0, 0, 0.01)" : `${colour}b3` });
  const stroke = new Stroke({ color: verdict ? "#ffffff" : colour, width: 1 });
  return [new Style({ fill, stroke })];
}

/** The class that counts: the reviewer's, where there is one. */
export function classOf({ properties }: Building): number {
  return properties.review?.damage_class ?? properties.damage_class;
}

/** Infinity where there is none. */
function meanSide(features: Feature[]): number {
  const sides = features.map((one) => Math.sqrt(getArea(one.getGeometry()!.getExtent())));
  return sides.length ? sides.reduce((sum, side) => sum + side, 0) / sides.length : Infinity;
}

function featureOf(building: Building): Feature {
  const feature = new Feature(toGeometry(building.geometry));
  feature.setId(building.id);
  feature.set("building", building);
  return feature;
}

function chosenStyle(): Style[] {
  return [
    new Style({ stroke: new Stroke({ color: CASING, width: 11 }) }),
    new Style({ stroke: new Stroke({ color: "#ffffff", width: 8 }) }),
    new Style({ stroke: new Stroke({ color: "#0b63c5", width: 5 }) }),
  ];
}
