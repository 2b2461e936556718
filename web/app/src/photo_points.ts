/** Photos as points where their cameras stood, on a raster or an empty map; a click opens one. */

import Feature from "ol/Feature";
import type OlMap from "ol/Map";
import type { Coordinate } from "ol/coordinate";
import Point from "ol/geom/Point";
import VectorLayer from "ol/layer/Vector";
import type { Pixel } from "ol/pixel";
import VectorSource from "ol/source/Vector";
import CircleStyle from "ol/style/Circle";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import Text from "ol/style/Text";
import { get } from "./api";
import type { PhotoPoint } from "./contract";

/** Screen pixels around a point that still are the point. */
const REACH = 6;

/** Of a photo with tags, and of one without. */
export const TAGGED = "#0b62c4";
export const UNTAGGED = "#e69f00";

export interface Standing {
  id: number;
  name: string;
  /** In the map's coordinates. */
  at: Coordinate;
  colour?: string;
}

export class PhotoPoints {
  readonly layer: VectorLayer;
  private readonly source = new VectorSource({ wrapX: false });
  private scene = -1;

  constructor() {
    this.layer = new VectorLayer({
      source: this.source,
      style: (feature) => look(feature.get("photo") as Standing),
      declutter: true,
    });
  }

  /** Shows those that stood in a scene, in its pixels; of no scene none. */
  async load(scene: number | undefined): Promise<void> {
    this.scene = scene ?? -1;
    this.show([]);
    if (scene === undefined) return;
    const points = await get<PhotoPoint[]>(`/scenes/${scene}/photos`);
    if (this.scene === scene) this.show(points.map((one) => ({ ...one, at: [one.x, -one.y] })));
  }

  show(photos: Standing[]): void {
    this.source.clear(true);
    this.source.addFeatures(
      photos.map((photo) => new Feature({ geometry: new Point(photo.at), photo })),
    );
  }

  /** The photo at a place of the screen. */
  under(map: OlMap, pixel: Pixel): Standing | undefined {
    return map.forEachFeatureAtPixel(pixel, (feature) => feature.get("photo") as Standing, {
      layerFilter: (layer) => layer === this.layer,
      hitTolerance: REACH,
    });
  }

  /** Opens the photo at a place of the screen, on the Tag page; whether there is one. */
  pick(map: OlMap, pixel: Pixel): boolean {
    const found = this.under(map, pixel);
    if (found) location.hash = addressOf(found);
    return found !== undefined;
  }
}

/** Of a photo on the Tag page. */
export function addressOf({ id }: { id: number }): string {
  return `#/tag?scene=${id}`;
}

/** Names make room for one another; points stay. */
function look({ name, colour = TAGGED }: Standing): Style {
  return new Style({
    image: new CircleStyle({
      radius: 7,
      fill: new Fill({ color: colour }),
      stroke: new Stroke({ color: "#fff", width: 2 }),
      declutterMode: "none",
    }),
    text: new Text({
      text: name,
      offsetY: -16,
      font: "13px sans-serif",
      fill: new Fill({ color: "#fff" }),
      stroke: new Stroke({ color: "rgba(15, 20, 26, 0.8)", width: 3 }),
    }),
  });
}
