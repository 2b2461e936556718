/** The square that is tagged next: under the pointer, until a click or a key holds it. */

import Feature from "ol/Feature";
import type { Coordinate } from "ol/coordinate";
import { fromExtent } from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import type { Place, Scene } from "../contract";
import { type Key, key } from "../keys";
import { type Picture, extentOf } from "../picture";

const LEAST = 16;
const MOST = 4096;

export class Square {
  readonly layer: VectorLayer;
  side: number;
  private row = 0;
  private col = 0;
  private held = false;
  private size: [height: number, width: number] = [1, 1];
  private readonly source = new VectorSource();

  constructor(
    side: number,
    private readonly moved: (place: Place) => void,
  ) {
    this.side = side;
    this.layer = new VectorLayer({
      source: this.source,
      style: () => [
        new Style({ stroke: new Stroke({ color: "rgba(15, 20, 26, 0.8)", width: 6 }) }),
        new Style({
          stroke: new Stroke({
            color: "#ffffff",
            width: 3,
            ...(this.held ? {} : { lineDash: [8, 6] }),
          }),
        }),
      ],
    });
  }

  /** Row, column and side; the side is that of the scene where that is smaller. */
  get place(): Place {
    return [this.row, this.col, this.fitting()];
  }

  listen(picture: Picture): void {
    picture.map.on("pointermove", (event) => {
      const mouse = (event.originalEvent as PointerEvent).pointerType === "mouse";
      if (mouse && !event.dragging && !this.held) this.around(event.coordinate);
    });
  }

  /** Holds it around a place. */
  click(place: Coordinate): void {
    this.held = true;
    this.around(place);
  }

  /** Begins in the middle of a scene. */
  enter(scene: Scene): void {
    this.size = [scene.height ?? 1, scene.width ?? 1];
    this.held = true;
    const side = this.fitting();
    this.move((this.size[0] - side) / 2, (this.size[1] - side) / 2);
  }

  hold([row, col, side]: Place): void {
    this.side = side;
    this.held = true;
    this.move(row, col);
  }

  resize(side: number): void {
    if (!Number.isFinite(side)) return;
    const before = this.fitting();
    this.side = Math.min(MOST, Math.max(LEAST, Math.round(side)));
    const shift = (before - this.fitting()) / 2;
    this.move(this.row + shift, this.col + shift);
  }

  /** To the right, then to the row below; false at the scene's end. */
  next(): boolean {
    const side = this.fitting();
    const [height, width] = this.size;
    this.held = true;
    if (this.col + side < width) this.move(this.row, this.col + side);
    else if (this.row + side < height) this.move(this.row + side, 0);
    else return false;
    return true;
  }

  show(visible: boolean): void {
    this.layer.setVisible(visible);
  }

  keys(): Key[] {
    const step = (rows: number, cols: number) => (event: KeyboardEvent) => {
      const by = event.shiftKey ? 1 : this.fitting() / 2;
      this.held = true;
      this.move(this.row + rows * by, this.col + cols * by);
    };
    return [
      key("←", "Square to the left by half; with Shift by 1 px", step(0, -1), "arrowleft"),
      key("→", "Square to the right", step(0, 1), "arrowright"),
      key("↑", "Square upwards", step(-1, 0), "arrowup"),
      key("↓", "Square downwards", step(1, 0), "arrowdown"),
      key("Esc", "Square follows the pointer again", () => this.release(), "escape"),
    ];
  }

  private release(): void {
    this.held = false;
    this.layer.changed();
  }

  private around([x = 0, y = 0]: Coordinate): void {
    const side = this.fitting();
    this.move(-y - side / 2, x - side / 2);
  }

  private fitting(): number {
    return Math.min(this.side, ...this.size);
  }

  private move(row: number, col: number): void {
    const side = this.fitting();
    const [height, width] = this.size;
    this.row = Math.round(Math.min(Math.max(row, 0), height - side));
    this.col = Math.round(Math.min(Math.max(col, 0), width - side));
    this.source.clear(true);
    this.source.addFeature(new Feature(fromExtent(extentOf(this.place))));
    this.moved(this.place);
  }
}
