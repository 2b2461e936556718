/** Before, after, or both with a line between them: before on the left of it. */

import type OlMap from "ol/Map";
import type TileLayer from "ol/layer/Tile";
import { getRenderPixel } from "ol/render";
import type RenderEvent from "ol/render/Event";
import { button, make } from "./page";

type Look = "before" | "swipe" | "after";

const STEP = 4;
const LEAP = 10;

export class Swipe {
  /** The buttons that choose. */
  readonly controls = make("div", "views");
  private readonly line = make("div", "swipe", make("span"));
  private readonly names = [make("div", "when left", "Before"), make("div", "when", "After")];
  private readonly buttons: Record<Look, HTMLButtonElement>;
  private before: TileLayer | null = null;
  private after: TileLayer | null = null;
  private look: Look = "after";
  private percent = 50;

  constructor(
    private readonly map: OlMap,
    stage: HTMLElement,
  ) {
    this.buttons = {
      before: button("Before", () => this.show("before")),
      swipe: button("Swipe", () => this.show("swipe")),
      after: button("After", () => this.show("after")),
    };
    this.controls.append(...Object.values(this.buttons));
    this.controls.setAttribute("role", "group");
    this.controls.setAttribute("aria-label", "Image before or after");
    this.line.tabIndex = 0;
    this.line.setAttribute("role", "slider");
    this.line.setAttribute("aria-label", "Line between before and after");
    this.line.setAttribute("aria-valuemin", "0");
    this.line.setAttribute("aria-valuemax", "100");
    this.listen(stage);
    stage.append(...this.names, this.line);
    this.place();
  }

  /** The layers of a scene; before is null where there is only one image. */
  use(before: TileLayer | null, after: TileLayer | null): void {
    this.before = before;
    this.after = after;
    this.look = "after";
    after?.on("prerender", (event) => this.clip(event));
    after?.on("postrender", (event) => {
      (event.context as CanvasRenderingContext2D).restore();
    });
    this.place();
  }

  toggle(): void {
    this.show(this.look === "before" ? "after" : "before");
  }

  /** Moves the line, showing it first. */
  shift(by: number): void {
    if (this.look === "swipe") this.move(this.percent + by * STEP);
    else this.show("swipe");
  }

  private show(look: Look): void {
    if (this.before) this.look = look;
    this.place();
  }

  private move(to: number): void {
    this.percent = Math.min(100, Math.max(0, to));
    this.place();
  }

  private place(): void {
    const { look, line, before, after, names } = this;
    this.controls.hidden = !before;
    for (const [name, made] of Object.entries(this.buttons)) {
      made.setAttribute("aria-pressed", String(name === look));
    }
    line.hidden = look !== "swipe";
    line.style.left = `${this.percent}%`;
    line.setAttribute("aria-valuenow", String(Math.round(this.percent)));
    before?.setVisible(look !== "after");
    after?.setVisible(look !== "before");
    names[0]!.hidden = !before || look === "after";
    names[1]!.hidden = !before || look === "before";
    this.map.render();
  }

  private clip(event: RenderEvent): void {
    const context = event.context as CanvasRenderingContext2D;
    const [width = 0, height = 0] = this.map.getSize() ?? [];
    context.save();
    if (this.look !== "swipe") return;
    const x = (width * this.percent) / 100;
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
  }

  private listen(stage: HTMLElement): void {
    const { line } = this;
    line.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      line.focus();
      line.setPointerCapture(event.pointerId);
    });
    line.addEventListener("pointermove", (event) => {
      if (!line.hasPointerCapture(event.pointerId)) return;
      const box = stage.getBoundingClientRect();
      this.move((100 * (event.clientX - box.left)) / box.width);
    });
    line.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? LEAP : STEP;
      const steps: Record<string, number> = {
        ArrowLeft: -step,
        ArrowRight: step,
        Home: -100,
        End: 100,
      };
      const by = steps[event.key];
      if (by === undefined) return;
      event.preventDefault();
      this.move(this.percent + by);
    });
  }
}
