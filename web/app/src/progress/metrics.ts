/** How right a model is, out of its record: what it reached on the chips that it was tested on. */

import { decimals } from "../page";

const KNOWN = ["auc", "average_precision", "f1", "precision", "recall"];

/** The figures that a record holds, by name. */
export function figuresOf(metrics: Record<string, unknown>): Map<string, number> {
  const tested = { ...metrics, ...(metrics.test as object | undefined) } as Record<string, unknown>;
  const found = KNOWN.map((name): [string, unknown] => [name, tested[name]]);
  return new Map(found.filter((pair): pair is [string, number] => typeof pair[1] === "number"));
}

export function figureWords(metrics: Record<string, unknown>): string {
  const found = [...figuresOf(metrics)];
  return found.map(([name, value]) => `${title(name)} ${decimals(value, 2)}`).join(", ");
}

export function title(name: string): string {
  return name === "auc" || name === "f1" ? name.toUpperCase() : name.replaceAll("_", " ");
}
