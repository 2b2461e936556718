/** Quality against the number of tags, as a drawing. */

import type { CurvePoint } from "../contract";
import { choice, decimals, field, figure, make, table } from "../page";
import { figuresOf, title } from "./metrics";

const [WIDTH, HEIGHT] = [560, 260];
const [LEFT, RIGHT, TOP, BOTTOM] = [46, 16, 14, 40];

export class Curve {
  readonly element = make("section", "curve");
  private readonly drawing = make("div");
  private points: CurvePoint[] = [];
  private metric = "";

  show(points: CurvePoint[]): void {
    this.points = points;
    const names = [...new Set(points.flatMap(({ metrics }) => [...figuresOf(metrics).keys()]))];
    this.element.replaceChildren(make("h2", "", "Quality against tags"));
    if (!names.length) {
      this.element.append(make("p", "soft", "There is no model yet that was learnt from tags."));
      return;
    }
    if (!names.includes(this.metric)) this.metric = names[0]!;
    const options = names.map((name): [string, string] => [name, title(name)]);
    const select = choice(options, this.metric, (name) => {
      this.metric = name;
      this.draw();
    });
    this.element.append(field("Measure", select), this.drawing);
    this.draw();
  }

  private draw(): void {
    const shown = this.points
      .flatMap(({ model, tags, metrics }) => {
        const value = figuresOf(metrics).get(this.metric);
        return value === undefined ? [] : [{ model, tags, value }];
      })
      .sort((a, b) => a.tags - b.tags || a.model - b.model);
    const most = round(Math.max(1, ...shown.map(({ tags }) => tags)));
    const x = (tags: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * tags) / most;
    const y = (value: number): number => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value;
    const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    svg.setAttribute("aria-label", `${title(this.metric)} against the number of tags`);
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      const at = y(value);
      svg.append(shape("line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }));
      svg.append(words(decimals(value, 2), { class: "tick end", x: LEFT - 6, y: at + 4 }));
    }
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      const at = { class: "tick mid", x: x(share * most), y: HEIGHT - BOTTOM + 18 };
      svg.append(words(figure(share * most), at));
    }
    const axis = { class: "tick mid", x: x(most / 2), y: HEIGHT - 4 };
    svg.append(words("tags that the model learnt from", axis));
    const path = shown.map(({ tags, value }) => `${x(tags)},${y(value)}`).join(" ");
    svg.append(shape("polyline", { class: "trace", points: path }));
    for (const { model, tags, value } of shown) {
      const dot = shape("circle", { class: "dot", cx: x(tags), cy: y(value), r: 4.5 });
      dot.append(
        words(`Model ${model}: ${decimals(value, 3)} with ${figure(tags)} tags`, {}, "title"),
      );
      svg.append(dot);
    }
    const rows = shown.map(({ model, tags, value }) => [
      String(model),
      figure(tags),
      decimals(value, 3),
    ]);
    const numbers = make("details", "", make("summary", "", "The numbers"));
    numbers.append(table(["Model", "Tags", title(this.metric)], rows));
    this.drawing.replaceChildren(svg, numbers);
  }
}

function round(most: number): number {
  const unit = 10 ** Math.floor(Math.log10(most));
  return Math.max(4, Math.ceil(most / unit) * unit);
}

function shape(name: string, attributes: Record<string, string | number>): SVGElement {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function words(text: string, at: Record<string, string | number>, name = "text"): SVGElement {
  const made = shape(name, at);
  made.textContent = text;
  return made;
}
