/** What the report's maker wrote into the page. Coordinates are metres from the upper left corner. */

export type Ring = number[];
export type Shape = Ring[][];

export interface Entry {
  code: number;
  name: string;
  colour: string;
  hatched: boolean;
}

export interface Columns {
  id: string[];
  damage_class: number[];
  damage_score?: (number | null)[];
  p_none?: (number | null)[];
  p_minor?: (number | null)[];
  p_major?: (number | null)[];
  p_destroyed?: (number | null)[];
  damage_frac?: (number | null)[];
  valid_frac?: (number | null)[];
  area_m2?: (number | null)[];
  source_id?: string[];
  flags?: string[];
  lon: number[];
  lat: number[];
}

export interface Data {
  kind: string;
  /** Width and height of the map, m. */
  size: [number, number];
  /** Width and height of one coordinate unit, m. */
  unit: [number, number];
  /** Width and height of the analysed grid, px. */
  pixels: [number, number];
  /** Side of a pixel, m. */
  pixel: number;
  upright: boolean;
  legend: Entry[];
  columns: Columns;
  shapes: Shape[];
  aoi: Shape[];
  unseen: { reason: string[]; area: number[]; shapes: Shape[] };
  /** Whether there are more places than the page holds. */
  partial: boolean;
  /** The damage codes as a picture, or nothing. */
  raster: string | null;
}

export function readData(): Data | null {
  const held = document.getElementById("data");
  return held?.textContent ? (JSON.parse(held.textContent) as Data) : null;
}

/** Rings whose points are steps from one to the next, as points on the map: y grows northwards. */
export function unfold(shape: Shape, unit: [number, number]): number[][][][] {
  return shape.map((polygon) =>
    polygon.map((ring) => {
      const points: number[][] = [];
      let x = 0;
      let y = 0;
      for (let k = 0; k < ring.length; k += 2) {
        x += ring[k] ?? 0;
        y += ring[k + 1] ?? 0;
        points.push([x * unit[0], -y * unit[1]]);
      }
      const first = points[0];
      if (first) points.push(first);
      return points;
    }),
  );
}
