/** A tag as it is queued: what the server is told, and what is shown until it has answered. */

import type { Place, Polygon, Scene, Tag } from "../contract";
import { type Outbox, newId } from "../outbox";

export interface Said {
  scene: Pick<Scene, "id" | "name">;
  square?: Place | undefined;
  polygon?: Polygon | undefined;
  labelSet: number;
  label: string;
  title: string;
}

export function putTag(outbox: Outbox, user: string, said: Said): Tag {
  const { scene, square, polygon } = said;
  const id = newId();
  const shown: Tag = {
    id,
    scene: scene.id,
    scene_name: scene.name,
    square: square ?? null,
    polygon: polygon ?? null,
    chip: null,
    label: said.label,
    label_set: said.labelSet,
    user,
    made_at: new Date().toISOString(),
    replaces: null,
    mine: true,
  };
  outbox.put({
    kind: "tag",
    title: `${said.title}: ${where(shown)}`,
    body: {
      id,
      scene: scene.id,
      ...(square ? { square } : {}),
      ...(polygon ? { polygon } : {}),
      label_set: said.labelSet,
      label: said.label,
      replaces: null,
    },
    shown,
  });
  return shown;
}

/** Another label for a tag's place, which may be of a newer version of its set; or none. */
export function correctTag(
  outbox: Outbox,
  user: string,
  old: Tag,
  label: string | null,
  label_set = old.label_set,
): Tag {
  const id = newId();
  const made_at = new Date().toISOString();
  const shown: Tag = { ...old, id, label, label_set, user, made_at, replaces: old.id, mine: true };
  outbox.put({
    kind: "tag",
    title: `${label ?? "Taken back"}: ${where(old)}`,
    body: { id, scene: old.scene, label_set, label, replaces: old.id },
    shown,
  });
  return shown;
}

export function where(tag: Pick<Tag, "scene_name" | "square">): string {
  const { square } = tag;
  return square
    ? `${tag.scene_name}, row ${square[0]}, column ${square[1]}`
    : `polygon in ${tag.scene_name}`;
}
