/** The tags of a scene as they are drawn: those that the server has, and those on their way. */

import Feature from "ol/Feature";
import { fromExtent } from "ol/geom/Polygon";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import Fill from "ol/style/Fill";
import Stroke from "ol/style/Stroke";
import Style from "ol/style/Style";
import { get } from "../api";
import type { LabelSet, Place, Tag } from "../contract";
import type { Outbox } from "../outbox";
import { extentOf, toGeometry } from "../picture";
import { colourOf } from "./label_bar";

/** Drawn of one scene: more would hide it. */
const MOST = 2_000;

export class Marks {
  readonly layer: VectorLayer;
  private readonly source = new VectorSource();
  private readonly tags = new Map<string, Tag>();
  /** Put since the last loading began: the server's answer may not hold them yet. */
  private fresh: Tag[] = [];
  private readonly looks = new Map<string, Style[]>();
  private scene = -1;

  constructor(
    private readonly versions: LabelSet[],
    private readonly outbox: Outbox,
  ) {
    this.layer = new VectorLayer({
      source: this.source,
      style: (feature) => this.styles(feature.get("tag") as Tag),
    });
  }

  /** The newest tags of a scene. */
  async load(scene: number): Promise<void> {
    this.scene = scene;
    this.fresh = [];
    const { tags } = await get<{ tags: Tag[] }>("/tags", { scene, limit: MOST });
    if (this.scene !== scene) return;
    this.tags.clear();
    for (const tag of tags) this.tags.set(tag.id, tag);
    for (const entry of this.outbox.entries()) {
      if (entry.kind === "tag" && !entry.refused) this.apply(entry.shown);
    }
    for (const tag of this.fresh) this.apply(tag);
    this.draw();
  }

  /** A tag put now; it takes the place of the one it replaces. */
  put(tag: Tag): void {
    this.fresh.push(tag);
    this.apply(tag);
    this.draw();
  }

  /** The user's own tag of a square by a label set, whichever version it was. */
  own(place: Place, set: string): Tag | undefined {
    const ids = this.versions.filter(({ name }) => name === set).map(({ id }) => id);
    const same = (tag: Tag): boolean => String(tag.square) === String(place);
    return [...this.tags.values()].find(
      (tag) => tag.mine && ids.includes(tag.label_set) && same(tag),
    );
  }

  private apply(tag: Tag): void {
    if (tag.replaces) this.tags.delete(tag.replaces);
    if (tag.scene === this.scene && tag.label !== null) this.tags.set(tag.id, tag);
  }

  private draw(): void {
    this.source.clear(true);
    this.source.addFeatures(
      [...this.tags.values()].map((tag) => {
        const geometry = tag.square
          ? fromExtent(extentOf(tag.square))
          : tag.polygon && toGeometry(tag.polygon);
        const feature = new Feature(geometry ?? undefined);
        feature.set("tag", tag);
        return feature;
      }),
    );
  }

  private styles(tag: Tag): Style[] {
    const colour = colourOf(this.versions, tag.label_set, tag.label);
    const name = `${tag.mine} ${colour}`;
    let look = this.looks.get(name);
    if (!look) {
      look = lookOf(colour, tag.mine);
      this.looks.set(name, look);
    }
    return look;
  }
}

/** Tags of others have a dashed edge. */
function lookOf(color: string, mine: boolean): Style[] {
  return [
    new Style({ stroke: new Stroke({ color: "rgba(15, 20, 26, 0.7)", width: 4 }) }),
    new Style({
      stroke: new Stroke({ color, width: 2.5, ...(mine ? {} : { lineDash: [10, 6] }) }),
      fill: new Fill({ color: `${color}14` }),
    }),
  ];
}
