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
  /** Of all scenes that were looked at. */
  private readonly tags = new Map<string, Tag>();
  /** By scene, when its tags came, or come, for the first time. */
  private readonly first = new Map<number, Promise<void>>();
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

  /** Draws the tags of a scene, and asks for the newest. */
  show(scene: number): Promise<void> {
    this.scene = scene;
    this.draw();
    return this.load(scene);
  }

  /** Waits until the tags of a scene are known; asks again where they did not come. */
  ready(scene: number): Promise<void> {
    return this.first.get(scene) ?? this.load(scene);
  }

  private load(scene: number): Promise<void> {
    const coming = this.fetch(scene);
    if (!this.first.has(scene)) {
      this.first.set(scene, coming);
      coming.catch(() => this.first.delete(scene));
    }
    return coming;
  }

  private async fetch(scene: number): Promise<void> {
    this.fresh = this.fresh.filter((tag) => tag.scene !== scene);
    const { tags } = await get<{ tags: Tag[] }>("/tags", { scene, limit: MOST });
    for (const tag of this.tags.values()) if (tag.scene === scene) this.tags.delete(tag.id);
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

  /** The user's own tag of a scene's square by a label set, whichever version it was. */
  own(scene: number, place: Place, set: string): Tag | undefined {
    const ids = this.versions.filter(({ name }) => name === set).map(({ id }) => id);
    const same = (tag: Tag): boolean =>
      tag.scene === scene && String(tag.square) === String(place);
    return [...this.tags.values()].find(
      (tag) => tag.mine && ids.includes(tag.label_set) && same(tag),
    );
  }

  private apply(tag: Tag): void {
    if (tag.replaces) this.tags.delete(tag.replaces);
    if (tag.label !== null) this.tags.set(tag.id, tag);
  }

  private draw(): void {
    this.source.clear(true);
    const shown = [...this.tags.values()].filter(({ scene }) => scene === this.scene);
    this.source.addFeatures(
      shown.map((tag) => {
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
