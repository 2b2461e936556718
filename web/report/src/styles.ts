/** How places look on the map: the legend's colours over a dark casing, stripes for the unknown. */

import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import type { Data } from "./data";

const CASING = "rgba(15, 20, 26, 0.75)";

const INTACT = 1;
/** From here on, m per screen pixel, a house is a dot: an outline would be all there is of it. */
const FAR = 0.8;

export type StyleOf = (code: number, resolution: number) => Style[] | undefined;

export function placeStyles(data: Data): StyleOf {
  const near = new Map<number, Style[]>();
  const far = new Map<number, Style[]>();
  for (const { code, colour, hatched } of data.legend) {
    const fill = (alpha: string): Fill =>
      new Fill({ color: hatched ? stripes(colour) : `${colour}${alpha}` });
    // What stands must not drown what fell: intact buildings are drawn lighter.
    const intact = code === INTACT;
    far.set(code, [
      new Style({
        fill: fill(intact ? "80" : "e6"),
        stroke: new Stroke({ color: intact ? `${colour}cc` : CASING, width: intact ? 0.8 : 1 }),
      }),
    ]);
    near.set(code, [
      new Style({ stroke: new Stroke({ color: CASING, width: intact ? 2.4 : 4 }) }),
      new Style({
        fill: fill(intact ? "2e" : "59"),
        stroke: new Stroke({ color: colour, width: intact ? 1.4 : 2.2 }),
      }),
    ]);
  }
  return (code, resolution) => (resolution > FAR ? far : near).get(code);
}

export function pickedStyle(): Style[] {
  return [
    new Style({ stroke: new Stroke({ color: CASING, width: 8 }) }),
    new Style({ stroke: new Stroke({ color: "#ffffff", width: 5 }) }),
    new Style({ stroke: new Stroke({ color: "#0b63c5", width: 2.4 }) }),
  ];
}

export function gapStyle(): Style {
  return new Style({
    fill: new Fill({ color: stripes("#6b7178") }),
    stroke: new Stroke({ color: "rgba(75, 80, 86, 0.9)", width: 1 }),
  });
}

export function areaStyle(): Style[] {
  return [
    new Style({ stroke: new Stroke({ color: CASING, width: 3 }) }),
    new Style({ stroke: new Stroke({ color: "#ffffff", width: 1.2, lineDash: [8, 6] }) }),
  ];
}

function stripes(colour: string): CanvasPattern | string {
  const side = 12;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  if (!context) return colour;
  context.fillStyle = "rgba(236, 238, 240, 0.55)";
  context.fillRect(0, 0, side, side);
  context.strokeStyle = colour;
  context.lineWidth = 3;
  context.beginPath();
  for (const shift of [-side, 0, side]) {
    context.moveTo(shift - 2, side + 2);
    context.lineTo(shift + side + 2, -2);
  }
  context.stroke();
  return context.createPattern(canvas, "repeat") ?? colour;
}
