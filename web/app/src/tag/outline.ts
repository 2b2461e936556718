/** Polygons: drawn with clicks, or with a cross that the arrow keys move. */

import Feature from "ol/Feature";
import Point from "ol/geom/Point";
import Draw from "ol/interaction/Draw";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Fill from "ol/style/Fill";
import RegularShape from "ol/style/RegularShape";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import type { Polygon } from "../contract";
import { type Key, key } from "../keys";
import { type Picture, toPolygon } from "../picture";

/** Screen pixels that the cross moves by. */
const STEP = 16;
const FINE = 2;

export class Outline {
  readonly layer: VectorLayer;
  private readonly source = new VectorSource();
  private readonly cross = new Feature(new Point([0, 0]));
  private draw: Draw | null = null;

  constructor(
    private readonly picture: () => Picture,
    private readonly finished: () => void,
  ) {
    const stroke = new Stroke({ color: "#ffffff", width: 3 });
    const shape = new RegularShape({ points: 4, radius: 12, radius2: 0, stroke });
    this.cross.setStyle(new Style({ image: shape }));
    this.layer = new VectorLayer({
      source: this.source,
      style: new Style({ stroke, fill: new Fill({ color: "rgba(11, 99, 197, 0.25)" }) }),
    });
  }

  get active(): boolean {
    return this.draw !== null;
  }

  /** What was drawn and has no label yet. */
  get polygon(): Polygon | null {
    const drawn = this.source.getFeatures().find((feature) => feature !== this.cross);
    return drawn ? toPolygon(drawn.getGeometry()!) : null;
  }

  start(): void {
    const { map } = this.picture();
    this.clear();
    this.draw = new Draw({ source: this.source, type: "Polygon", stopClick: true });
    this.draw.on("drawstart", () => this.clear());
    this.draw.on("drawend", () => setTimeout(this.finished));
    map.addInteraction(this.draw);
    this.cross.getGeometry()!.setCoordinates(map.getView().getCenter() ?? [0, 0]);
  }

  stop(): void {
    if (this.draw) this.picture().map.removeInteraction(this.draw);
    this.draw = null;
    this.source.clear();
  }

  /** Room for the next one. */
  clear(): void {
    this.source.clear();
    this.source.addFeature(this.cross);
  }

  keys(): Key[] {
    const step = (x: number, y: number) => (event: KeyboardEvent) => {
      const by =
        (event.shiftKey ? FINE : STEP) * (this.picture().map.getView().getResolution() ?? 1);
      this.cross.getGeometry()!.translate(x * by, y * by);
    };
    return [
      key("←", "Cross to the left; with Shift by less", step(-1, 0), "arrowleft"),
      key("→", "Cross to the right", step(1, 0), "arrowright"),
      key("↑", "Cross upwards", step(0, 1), "arrowup"),
      key("↓", "Cross downwards", step(0, -1), "arrowdown"),
      key("Space", "Corner at the cross", () => this.corner(), " "),
      key("Enter", "Finish the polygon", () => this.draw?.finishDrawing()),
      key("Backspace", "Take back the last corner", () => this.draw?.removeLastPoint()),
    ];
  }

  private corner(): void {
    this.draw?.appendCoordinates([this.cross.getGeometry()!.getCoordinates()]);
  }
}
