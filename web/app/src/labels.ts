/** The versions of label sets. */

import type { LabelSet } from "./contract";

/** The newest version of each set. */
export function newestOf(versions: LabelSet[]): LabelSet[] {
  return versions.filter(
    (one) => !versions.some(({ name, version }) => name === one.name && version > one.version),
  );
}
