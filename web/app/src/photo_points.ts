/** Photos as points on the raster that their cameras stood in; one that is clicked is opened. */

import Feature from "ol/Feature";
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
import type { Picture } from "./picture";

/** Screen pixels around a point that still are the point. */
const REACH = 6;

/** Names make room for one another; points stay. */
const POINT = new CircleStyle({
  radius: 7,
  fill: new Fill({ color: "#0b62c4" }),
  stroke: new Stroke({ color: "#fff", width: 2 }),
  declutterMode: "none",
});

export class PhotoPoints {
  readonly layer: VectorLayer;
  private readonly source = new VectorSource();
  private scene = -1;

  constructor() {
    this.layer = new VectorLayer({
      source: this.source,
      style: (feature) => look((feature.get("photo") as PhotoPoint).name),
      declutter: true,
    });
  }

  /** Shows those of a scene; of no scene none. */
  async load(scene: number | undefined): Promise<void> {
    this.scene = scene ?? -1;
    this.source.clear(true);
    if (scene === undefined) return;
    const points = await get<PhotoPoint[]>(`/scenes/${scene}/photos`);
    if (this.scene !== scene) return;
    this.source.addFeatures(
      points.map((photo) => new Feature({ geometry: new Point([photo.x, -photo.y]), photo })),
    );
  }

  /** Opens the photo at a place of the screen, on the Tag page; whether there is one. */
  pick(picture: Picture, pixel: Pixel): boolean {
    const found = picture.map.forEachFeatureAtPixel(
      pixel,
      (feature) => feature.get("photo") as PhotoPoint,
      { layerFilter: (layer) => layer === this.layer, hitTolerance: REACH },
    );
    if (found) location.hash = `#/tag?scene=${found.id}`;
    return found !== undefined;
  }
}

function look(name: string): Style {
  return new Style({
    image: POINT,
    text: new Text({
      text: name,
      offsetY: -16,
      font: "13px sans-serif",
      fill: new Fill({ color: "#fff" }),
      stroke: new Stroke({ color: "rgba(15, 20, 26, 0.8)", width: 3 }),
    }),
  });
}
