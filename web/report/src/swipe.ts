/** The swipe: before on the left of a line, after on the right of it. */

import type OlMap from "ol/Map";
import type ImageLayer from "ol/layer/Image";
import type ImageSource from "ol/source/Image";
import { getRenderPixel } from "ol/render";
import type RenderEvent from "ol/render/Event";
import { byId } from "./page";

export type View = "before" | "swipe" | "after";

type Picture = ImageLayer<ImageSource>;

const STEP = 2;
const LEAP = 10;

export function startSwipe(map: OlMap, before: Picture | null, after: Picture): void {
  const line = byId("swipe");
  const tags = { before: byId("tag-before"), after: byId("tag-after") };
  let view: View = before ? "swipe" : "after";
  let percent = 50;

  const place = (): void => {
    line.hidden = view !== "swipe";
    line.style.left = `${percent}%`;
    line.setAttribute("aria-valuenow", String(Math.round(percent)));
    line.setAttribute("aria-valuetext", `${Math.round(percent)} % before`);
    before?.setVisible(view !== "after");
    after.setVisible(view !== "before");
    tags.before.hidden = view === "after";
    tags.after.hidden = view === "before";
    map.render();
  };
  const move = (to: number): void => {
    percent = Math.min(100, Math.max(0, to));
    place();
  };

  after.on("prerender", (event: RenderEvent) => {
    const context = event.context as CanvasRenderingContext2D;
    const size = map.getSize();
    context.save();
    if (view !== "swipe" || !size) return;
    const [width = 0, height = 0] = size;
    const x = (width * percent) / 100;
    const corners = [
      [x, 0],
      [width, 0],
      [width, height],
      [x, height],
    ].map((pixel) => getRenderPixel(event, pixel));
    context.beginPath();
    for (const [px = 0, py = 0] of corners) context.lineTo(px, py);
    context.closePath();
    context.clip();
  });
  after.on("postrender", (event: RenderEvent) => {
    (event.context as CanvasRenderingContext2D).restore();
  });

  line.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    line.focus();
    line.setPointerCapture(event.pointerId);
  });
  line.addEventListener("pointermove", (event) => {
    if (!line.hasPointerCapture(event.pointerId)) return;
    const box = byId("map").getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  });
  line.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? LEAP : STEP;
    const to: Record<string, number> = {
      ArrowLeft: percent - step,
      ArrowDown: percent - step,
      ArrowRight: percent + step,
      ArrowUp: percent + step,
      PageDown: percent - LEAP,
      PageUp: percent + LEAP,
      Home: 0,
      End: 100,
    };
    const next = to[event.key];
    if (next === undefined) return;
    event.preventDefault();
    move(next);
  });

  const views = byId("views");
  views.hidden = !before;
  views.addEventListener("change", (event) => {
    view = (event.target as HTMLInputElement).value as View;
    place();
  });
  place();
}
