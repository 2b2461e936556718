/** The map, in metres on the ground from the upper left corner of the analysed region. */

import Feature from "ol/Feature";
import OlMap from "ol/Map";
import View from "ol/View";
import { defaults as defaultControls } from "ol/control/defaults";
import ScaleLine from "ol/control/ScaleLine";
import ZoomToExtent from "ol/control/ZoomToExtent";
import { defaults as defaultInteractions } from "ol/interaction/defaults";
import MultiPolygon from "ol/geom/MultiPolygon";
import ImageLayer from "ol/layer/Image";
import VectorLayer from "ol/layer/Vector";
import Projection from "ol/proj/Projection";
import Static from "ol/source/ImageStatic";
import VectorSource from "ol/source/Vector";
import type { Choice } from "./choice";
import { type Data, type Shape, unfold } from "./data";
import { byId, make } from "./page";
import { areaStyle, gapStyle, pickedStyle, placeStyles } from "./styles";
import { startSwipe } from "./swipe";

const CLOSEST = 12;
const MARGIN = 60;
const AROUND = 40;

export function startMap(data: Data, choice: Choice): OlMap {
  const target = byId("map");
  const [width, height] = data.size;
  const extent = [0, -height, width, 0];
  const projection = new Projection({
    code: "region",
    units: "m",
    extent,
    getPointResolution: (resolution) => resolution,
  });
  const picture = (url: string, interpolate = true): ImageLayer<Static> =>
    new ImageLayer({
      source: new Static({ url, imageExtent: extent, projection, interpolate }),
    });
  const shapes = (given: Shape[]): Feature<MultiPolygon>[] =>
    given.map((shape, row) => {
      const feature = new Feature(new MultiPolygon(unfold(shape, data.unit)));
      feature.setId(row);
      return feature;
    });

  const beforeUrl = shotUrl("picture-before");
  const before = beforeUrl ? picture(beforeUrl) : null;
  const after = picture(shotUrl("picture-after") ?? "");
  const raster = data.raster ? picture(data.raster, false) : null;
  const gaps = new VectorLayer({
    source: new VectorSource({ features: shapes(data.unseen.shapes) }),
    style: gapStyle(),
  });
  const area = new VectorLayer({
    source: new VectorSource({ features: shapes(data.aoi) }),
    style: areaStyle(),
  });
  const features = shapes(data.shapes);
  const styles = placeStyles(data);
  features.forEach((feature, row) => feature.set("code", data.columns.damage_class[row]));
  const shown = new VectorSource<Feature<MultiPolygon>>();
  const places = new VectorLayer({
    source: shown,
    style: (feature, resolution) => styles(feature.get("code") as number, resolution),
    updateWhileAnimating: true,
    updateWhileInteracting: true,
  });
  const pickedSource = new VectorSource<Feature<MultiPolygon>>();
  const picked = new VectorLayer({ source: pickedSource, style: pickedStyle() });

  const view = new View({
    projection,
    center: [width / 2, -height / 2],
    extent: [-width, -2 * height, 2 * width, height],
    constrainOnlyCenter: true,
    minResolution: Math.min(data.pixel / CLOSEST, Math.max(width, height) / 300),
    maxResolution: (2 * Math.max(width, height)) / 300,
    enableRotation: false,
    smoothResolutionConstraint: true,
  });
  const layers = [before, after, raster, gaps, area, places, picked];
  const map = new OlMap({
    target,
    moveTolerance: 4,
    layers: layers.filter((layer) => layer !== null),
    view,
    controls: defaultControls({
      attribution: false,
      rotate: false,
      zoomOptions: { zoomInTipLabel: "Closer", zoomOutTipLabel: "Further away" },
    }).extend([
      new ScaleLine({ units: "metric", minWidth: 80 }),
      new ZoomToExtent({ extent, label: make("i", "whole"), tipLabel: "Show everything" }),
    ]),
    interactions: defaultInteractions({ altShiftDragRotate: false, pinchRotate: false }),
  });
  view.fit(extent, { padding: [8, 8, 8, 8] });
  startSwipe(map, before, after);
  byId("north").hidden = !data.upright;

  wireOverlay(places, raster, data.partial);
  wireCheck("gaps", gaps, data.unseen.shapes.length > 0);

  choice.filtered(() => {
    shown.clear(true);
    shown.addFeatures(choice.shown.flatMap((row) => features[row] ?? []));
  });
  choice.chosen((from) => {
    pickedSource.clear(true);
    const feature = features[choice.picked];
    if (!feature) return;
    pickedSource.addFeature(feature.clone());
    if (from === "map") return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const around = Math.max(data.pixel / 2, AROUND / 400);
    view.fit(feature.getGeometry()?.getExtent() ?? extent, {
      padding: [MARGIN, MARGIN, MARGIN, MARGIN],
      minResolution: around,
      duration: calm ? 0 : 300,
    });
  });
  const under = (pixel: number[], wanted: VectorLayer = places): number => {
    let row = -1;
    const stop = { layerFilter: (layer: unknown) => layer === wanted, hitTolerance: 4 };
    // The first, topmost feature ends the search; a row of 0 would not.
    map.forEachFeatureAtPixel(pixel, (feature) => (row = feature.getId() as number) >= 0, stop);
    return row;
  };
  map.on("singleclick", ({ pixel }) => choice.pick(under(pixel), "map", under(pixel, gaps)));
  map.on("pointermove", (event) => {
    if (!event.dragging) target.classList.toggle("over", under(event.pixel) >= 0);
  });
  return map;
}

/** One switch and one slider for all that shows damage, and a switch for the picture of codes. */
function wireOverlay(
  places: VectorLayer,
  raster: ImageLayer<Static> | null,
  partial: boolean,
): void {
  const overlay = byId<HTMLInputElement>("overlay");
  const pixels = byId<HTMLInputElement>("raster");
  const opacity = byId<HTMLInputElement>("opacity");
  byId("raster-label").hidden = !raster;
  pixels.checked = partial;
  const apply = (): void => {
    for (const layer of [places, raster]) layer?.setOpacity(opacity.valueAsNumber / 100);
    places.setVisible(overlay.checked);
    raster?.setVisible(overlay.checked && pixels.checked);
    opacity.disabled = !overlay.checked;
  };
  for (const control of [overlay, pixels, opacity]) control.addEventListener("input", apply);
  apply();
}

function wireCheck(id: string, layer: VectorLayer, there: boolean): void {
  const box = byId<HTMLInputElement>(id);
  byId(`${id}-label`).hidden = !there;
  box.addEventListener("input", () => layer.setVisible(box.checked));
}

function shotUrl(id: string): string | null {
  const found = document.getElementById(id);
  return found instanceof HTMLImageElement ? found.src : null;
}
