/** All photos whose cameras noted where they stood, on a map that needs no raster. */

import Feature from "ol/Feature";
import type OlMap from "ol/Map";
import View from "ol/View";
import ScaleLine from "ol/control/ScaleLine";
import type { Coordinate } from "ol/coordinate";
import { boundingExtent, containsCoordinate } from "ol/extent";
import Point from "ol/geom/Point";
import Graticule from "ol/layer/Graticule";
import VectorLayer from "ol/layer/Vector";
import { fromLonLat } from "ol/proj";
import VectorSource from "ol/source/Vector";
import CircleStyle from "ol/style/Circle";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import Text from "ol/style/Text";
import type { Scene } from "../contract";
import { type Key, key } from "../keys";
import { button, choice, counted, field, make, moment, swatch } from "../page";
import { PhotoPoints, TAGGED, UNTAGGED, addressOf } from "../photo_points";
import { plainMap, zoomKeys } from "../picture";
import type { Page } from "../shell";

export type Placed = Scene & { position: [lon: number, lat: number] };

/** Metres per pixel of the screen, at the closest. */
const CLOSEST = 0.05;
/** For a single photo, so that something around it would be seen. */
const CLOSE = 0.5;
const MARGIN = 60;

export function isPlaced(scene: Scene): scene is Placed {
  return scene.kind === "photo" && scene.position !== null;
}

interface Spot {
  photo: Placed;
  at: Coordinate;
  link: HTMLAnchorElement;
}

export class PhotoMap implements Page {
  readonly element = make("div", "reviewing photo-map");
  private readonly map: OlMap;
  private readonly points = new PhotoPoints();
  private readonly ring = new VectorSource({ wrapX: false });
  private readonly about = make("p", "when");
  private readonly counts = make("div", "filters");
  private readonly list = make("ul", "plain");
  private spots: Spot[] = [];
  private chosen: Spot | undefined;

  constructor(photos: Placed[]) {
    const target = make("div", "picture");
    const north = make("div", "north", "N");
    north.setAttribute("aria-label", "North is up");
    this.about.setAttribute("aria-live", "polite");
    const stage = make("div", "stage", target, north, this.about);
    this.map = plainMap(target);
    this.map.addControl(new ScaleLine({ units: "metric", minWidth: 90 }));
    this.map.setView(
      new View({ multiWorld: true, enableRotation: false, minResolution: CLOSEST, center: [0, 0] }),
    );
    for (const layer of [graticule(), new VectorLayer({ source: this.ring, style: ringed() })]) {
      this.map.addLayer(layer);
    }
    this.map.addLayer(this.points.layer);
    this.map.on("pointermove", ({ pixel, dragging }) => {
      const under = dragging ? undefined : this.points.under(this.map, pixel);
      target.classList.toggle("pointing", under !== undefined);
      if (under) this.choose(under.id);
    });
    this.map.on("click", ({ pixel }) => this.points.pick(this.map, pixel));

    const panel = make("aside", "panel");
    const towns = [...new Set(photos.map(({ town }) => town))].sort();
    if (towns.length > 1) {
      const options = towns.map((town, k): [string, string] => [String(k), town || "No town"]);
      const select = choice([["", "Every town"], ...options], "", (k) =>
        this.fill(photos.filter(({ town }) => !k || town === towns[Number(k)])),
      );
      panel.append(field("Town", select));
    }
    panel.append(this.counts, button("Show everything", () => this.fit(), "", "0"), this.list);
    this.element.append(stage, panel);
    // A map is as large as its place in the page.
    queueMicrotask(() => this.fill(photos));
  }

  get keys(): Key[] {
    return [
      key("↓", "Next photo; Enter opens it", () => this.step(1), "arrowdown"),
      key("↑", "Photo before", () => this.step(-1), "arrowup"),
      ...zoomKeys(this.map, () => this.fit()),
    ];
  }

  close(): void {
    this.map.setTarget(undefined);
    this.map.dispose();
  }

  private fill(photos: Placed[]): void {
    const places = placesOf(photos);
    this.spots = photos.map((photo, k) => ({ photo, at: places[k]!, link: this.link(photo) }));
    this.points.show(
      this.spots.map(({ photo: { id, name, tags }, at }) => {
        return { id, name, at, colour: tags ? TAGGED : UNTAGGED };
      }),
    );
    const tagged = photos.filter(({ tags }) => tags > 0).length;
    this.counts.replaceChildren(
      make("p", "", swatch(TAGGED), `${counted(tagged, "photo")} with tags`),
      make("p", "", swatch(UNTAGGED), `${counted(photos.length - tagged, "photo")} without tags`),
    );
    this.list.replaceChildren(...this.spots.map(({ link }) => make("li", "", link)));
    this.ring.clear();
    this.about.textContent = "";
    this.fit();
  }

  private link(photo: Placed): HTMLAnchorElement {
    const facts = `${wordsOf(photo)} · ${counted(photo.tags, "tag")}`;
    const made = make("a", "button scene", make("b", "", photo.name), make("span", "soft", facts));
    made.href = addressOf(photo);
    for (const event of ["focus", "pointerenter"]) {
      made.addEventListener(event, () => this.choose(photo.id));
    }
    return made;
  }

  /** Tells of a photo, and shows which point it is. */
  private choose(id: number): void {
    const spot = this.spots.find(({ photo }) => photo.id === id);
    if (!spot || spot === this.chosen) return;
    this.chosen?.link.removeAttribute("aria-current");
    this.chosen = spot;
    spot.link.setAttribute("aria-current", "true");
    spot.link.scrollIntoView({ block: "nearest" });
    this.about.textContent = `${spot.photo.name} · ${wordsOf(spot.photo)}`;
    this.ring.clear(true);
    this.ring.addFeature(new Feature(new Point(spot.at)));
    const view = this.map.getView();
    if (!containsCoordinate(view.calculateExtent(this.map.getSize()), spot.at)) {
      view.setCenter(spot.at);
    }
  }

  private step(by: number): void {
    const now = this.spots.findIndex(({ link }) => link === document.activeElement);
    this.spots.at(now < 0 ? 0 : (now + by) % this.spots.length)?.link.focus();
  }

  private fit(): void {
    this.map.updateSize();
    const extent = boundingExtent(this.spots.map(({ at }) => at));
    const padding = [MARGIN, MARGIN, MARGIN, MARGIN];
    this.map.getView().fit(extent, { padding, minResolution: CLOSE });
  }
}

function wordsOf({ taken_at, town }: Placed): string {
  return [taken_at ? moment(taken_at) : "time unknown", town].filter(Boolean).join(" · ");
}

/** Mercator: north is up, the scale bar is true where one looks; no seam lies between photos. */
function placesOf(photos: Placed[]): Coordinate[] {
  const first = afterWidestGap(photos.map(({ position: [lon] }) => lon));
  return photos.map(({ position: [lon, lat] }) => fromLonLat([lon < first ? lon + 360 : lon, lat]));
}

/** The longitude from which on to the east the others lie closest together. */
function afterWidestGap(lons: number[]): number {
  const sorted = [...lons].sort((one, other) => one - other);
  let found = sorted[0]!;
  let widest = found + 360 - sorted.at(-1)!;
  sorted.forEach((lon, k) => {
    const gap = lon - sorted[k - 1]!;
    if (gap > widest) [found, widest] = [lon, gap];
  });
  return found;
}

function graticule(): Graticule {
  const text = { font: "12px sans-serif", fill: new Fill({ color: "#c8d0d8" }) };
  return new Graticule({
    strokeStyle: new Stroke({ color: "rgba(255, 255, 255, 0.2)", width: 1 }),
    showLabels: true,
    lonLabelStyle: new Text({ ...text, textBaseline: "bottom" }),
    latLabelStyle: new Text({ ...text, textAlign: "end" }),
  });
}

function ringed(): Style[] {
  const ring = (color: string, width: number): Style =>
    new Style({ image: new CircleStyle({ radius: 10, stroke: new Stroke({ color, width }) }) });
  return [ring("rgba(15, 20, 26, 0.75)", 6), ring("#ffffff", 3)];
}
