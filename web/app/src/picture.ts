/** A scene on the screen, in its own pixels: x is the column, y minus the row. */

import OlMap from "ol/Map";
import View from "ol/View";
import { defaults as defaultControls } from "ol/control/defaults";
import ZoomToExtent from "ol/control/ZoomToExtent";
import type { Extent } from "ol/extent";
import { containsExtent, getCenter } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";
import type Geometry from "ol/geom/Geometry";
import { defaults as defaultInteractions } from "ol/interaction/defaults";
import type VectorLayer from "ol/layer/Vector";
import TileLayer from "ol/layer/Tile";
import Projection from "ol/proj/Projection";
import type { TileSourceEvent } from "ol/source/Tile";
import type Tile from "ol/Tile";
import XYZ from "ol/source/XYZ";
import TileGrid from "ol/tilegrid/TileGrid";
import { link } from "./api";
import type { Place, Polygon, Scene } from "./contract";
import { key, type Key } from "./keys";
import { make } from "./page";
import { Swipe } from "./swipe";

const TILE = 256;
/** Screen pixels of a scene's pixel, at the closest. */
const CLOSEST = 8;
/** How much of the screen's shorter side stays free around a place that is shown. */
const MARGIN = 0.3;
/** Screen pixels of a scene's pixel at most, so that what lies around a place is seen too. */
const CLOSE = 2;
/** Tries for a tile that the server has no time for at once, and the pause before the second, ms. */
const TRIES = 30;
const PAUSE = 1_000;
/** The longest pause: a large image without overviews is prepared for minutes. */
const LONGEST = 10_000;

export class Picture {
  readonly element = make("div", "stage");
  readonly map: OlMap;
  readonly swipe: Swipe;
  /** Screen pixels at the right that something lies on. */
  covered = 0;
  /** Of the scene, in the map's coordinates. */
  extent: Extent = [0, -1, 1, 0];

  constructor(overlays: VectorLayer[]) {
    const target = make("div", "picture");
    this.element.append(target);
    this.map = plainMap(target);
    const whole = new ZoomToExtent({ label: make("i", "whole"), tipLabel: "Show everything (0)" });
    this.map.addControl(whole);
    this.swipe = new Swipe(this.map, this.element);
    overlays.forEach((layer, place) => {
      layer.setZIndex(place + 1);
      this.map.addLayer(layer);
    });
  }

  /** Shows a scene whole; one without tiles is an empty sheet of its size. */
  show(scene: Pick<Scene, "id" | "width" | "height" | "levels" | "before_id"> | null): void {
    const width = scene?.width ?? 1;
    const height = scene?.height ?? 1;
    this.extent = [0, -height, width, 0];
    const projection = new Projection({
      code: `pixels of scene ${scene?.id}`,
      units: "pixels",
      extent: this.extent,
      getPointResolution: (resolution) => resolution,
    });
    for (const layer of this.map.getAllLayers()) {
      if (layer instanceof TileLayer) this.map.removeLayer(layer);
    }
    const levels = scene?.levels ?? 0;
    const tiles = (layer: string): TileLayer =>
      new TileLayer({ source: this.source(scene!.id, levels, layer, projection), zIndex: 0 });
    const before = levels && scene?.before_id ? tiles("pre") : null;
    const after = levels ? tiles("post") : null;
    for (const layer of [before, after]) if (layer) this.map.addLayer(layer);
    this.swipe.use(before, after);

    const longest = Math.max(width, height);
    this.map.setView(
      new View({
        projection,
        center: getCenter(this.extent),
        extent: [-width, -2 * height, 2 * width, height],
        constrainOnlyCenter: true,
        minResolution: Math.min(1 / CLOSEST, longest / 300),
        maxResolution: (2 * longest) / 300,
        enableRotation: false,
      }),
    );
    this.fit();
  }

  fit(): void {
    this.map.updateSize();
    this.map.getView().fit(this.extent, { padding: [12, 12, 12, 12] });
  }

  /** Moves a place into sight; `closely` also comes near enough to judge it. */
  reveal(place: Extent, closely: boolean): void {
    const view = this.map.getView();
    const size = this.map.getSize();
    if (!size) return;
    const [width = 0, height = 0] = size;
    const pad = Math.min(width - this.covered, height) * MARGIN;
    const padding = [pad, pad + this.covered, pad, pad];
    if (closely) view.fit(place, { padding, minResolution: 1 / CLOSE });
    else if (!containsExtent(view.calculateExtent(size), place)) view.setCenter(getCenter(place));
  }

  close(): void {
    this.map.setTarget(undefined);
    this.map.dispose();
  }

  keys(): Key[] {
    return [
      key("B", "Before or after", () => this.swipe.toggle()),
      key(",", "Swipe line to the left", () => this.swipe.shift(-1)),
      key(".", "Swipe line to the right", () => this.swipe.shift(1)),
      ...zoomKeys(this.map, () => this.fit()),
    ];
  }

  private source(id: number, levels: number, layer: string, projection: Projection): XYZ {
    const resolutions = Array.from({ length: levels }, (_, z) => 2 ** (levels - 1 - z));
    const { extent } = this;
    const source = new XYZ({
      url: `${link(`/scenes/${id}/tiles`)}/{z}/{x}/{y}?layer=${layer}`,
      projection,
      tileGrid: new TileGrid({ extent, origin: [0, 0], resolutions, tileSize: TILE }),
      transition: 0,
    });
    const failures = new WeakMap<Tile, number>();
    source.on("tileloaderror", ({ tile }: TileSourceEvent) => {
      const failed = (failures.get(tile) ?? 0) + 1;
      failures.set(tile, failed);
      const pause = Math.min(PAUSE * 2 ** (failed - 1), LONGEST);
      if (failed < TRIES) setTimeout(() => tile.load(), pause);
    });
    return source;
  }
}

/** A map that is never turned, and whose keys are the page's. */
export function plainMap(target: HTMLElement): OlMap {
  const zoomOptions = { zoomInTipLabel: "Closer (+)", zoomOutTipLabel: "Further away (-)" };
  return new OlMap({
    target,
    moveTolerance: 4,
    controls: defaultControls({ attribution: false, rotate: false, zoomOptions }),
    interactions: defaultInteractions({
      altShiftDragRotate: false,
      pinchRotate: false,
      doubleClickZoom: false,
      keyboard: false,
    }),
  });
}

export function zoomKeys(map: OlMap, fit: () => void): Key[] {
  const zoom = (by: number) => (): void => map.getView().adjustZoom(by);
  return [
    key("+", "Closer", zoom(0.5), "+", "="),
    key("-", "Further away", zoom(-0.5)),
    key("0", "Show everything", fit),
  ];
}

export function extentOf([row, col, side]: Place): Extent {
  return [col, -row - side, col + side, -row];
}

const format = new GeoJSON();

/** A polygon in pixels as the map's geometry, and back. */
export function toGeometry(polygon: Polygon): Geometry {
  const made = format.readGeometry(polygon)!; // null is the geometry of null only
  made.scale(1, -1, [0, 0]);
  return made;
}

export function toPolygon(geometry: Geometry): Polygon {
  const made = geometry.clone();
  made.scale(1, -1, [0, 0]);
  return format.writeGeometryObject(made) as Polygon;
}
