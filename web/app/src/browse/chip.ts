/** The picture of a chip. */

import { link } from "../api";
import { make } from "../page";

export function chipPicture(chip: number | null, told: string): HTMLElement {
  if (chip === null) return make("div", "chip empty", "Polygon");
  const image = make("img", "chip");
  image.src = link(`/chips/${chip}`);
  image.alt = told;
  image.loading = "lazy";
  image.decoding = "async";
  return image;
}
