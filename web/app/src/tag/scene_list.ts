/** The scenes to choose from. */

import type { Scene } from "../contract";
import { choice, counted, decimals, figure, make } from "../page";

export class SceneList {
  readonly element = make("section", "scenes");
  private readonly list = make("ul", "plain");
  private readonly wanted = { town: "", event: "", tagged: "" };
  private readonly filter = make("div", "filters");
  private readonly counts = new Map<number, HTMLElement>();
  private scenes: Scene[] = [];
  private open = -1;

  constructor(private readonly pick: (scene: Scene) => void) {
    this.element.setAttribute("aria-label", "Scenes");
    this.element.append(make("h2", "", "Scenes"), this.filter, this.list);
  }

  use(scenes: Scene[]): void {
    this.scenes = scenes;
    this.filter.replaceChildren();
    for (const name of ["event", "town"] as const) {
      const values = [...new Set(scenes.map((scene) => scene[name]).filter(Boolean))].sort();
      if (values.length < 2) continue;
      const options = values.map((value): [string, string] => [value, value]);
      this.filter.append(this.select([["", `Every ${name}`], ...options], name));
    }
    const tagged: [string, string][] = [
      ["", "Tagged or not"],
      ["no", "No tags yet"],
      ["yes", "With tags"],
    ];
    this.filter.append(this.select(tagged, "tagged"));
    this.fill();
  }

  /** Marks the scene that is looked at. */
  mark(scene: Scene): void {
    this.open = scene.id;
    this.fill();
  }

  /** Writes down how many tags a scene has now. */
  recount(scene: Scene): void {
    const shown = this.counts.get(scene.id);
    if (shown) shown.textContent = counted(scene.tags, "tag");
  }

  private select(options: [string, string][], name: keyof SceneList["wanted"]): HTMLElement {
    const made = choice(options, "", (value) => {
      this.wanted[name] = value;
      this.fill();
    });
    made.setAttribute("aria-label", name);
    return made;
  }

  private fill(): void {
    const { town, event, tagged } = this.wanted;
    const shown = this.scenes.filter(
      (scene) =>
        (!town || scene.town === town) &&
        (!event || scene.event === event) &&
        (!tagged || scene.tags > 0 === (tagged === "yes")),
    );
    this.list.replaceChildren(...shown.map((scene) => make("li", "", this.line(scene))));
    if (!shown.length) this.list.append(make("li", "soft", "No scene."));
  }

  private line(scene: Scene): HTMLElement {
    const made = make("button", "scene", make("b", "", scene.name));
    made.type = "button";
    const size = scene.width ? `${figure(scene.width)} × ${figure(scene.height ?? 0)} px` : "";
    const day = scene.taken_at?.slice(0, 10) ?? "";
    const before = scene.before_id ? "with before" : "";
    const [lon, lat] = scene.position ?? [];
    const place = lon === undefined ? "" : `lat ${decimals(lat, 5)}, lon ${decimals(lon, 5)}`;
    const facts = [scene.town, scene.event, day, before, place, size];
    made.append(make("span", "soft", facts.filter(Boolean).join(" · ")));
    const count = make("span", "count");
    made.append(count);
    this.counts.set(scene.id, count);
    this.recount(scene);
    if (scene.id === this.open) made.setAttribute("aria-current", "true");
    made.addEventListener("click", () => this.pick(scene));
    return made;
  }
}
