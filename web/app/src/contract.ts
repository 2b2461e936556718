/** What the server answers. Places are pixels of a scene: x is the column, y the row. */

export type Role = "viewer" | "tagger" | "reviewer" | "admin";

export const ROLES: Role[] = ["viewer", "tagger", "reviewer", "admin"];

export interface User {
  name: string;
  role: Role;
}

export interface Scene {
  id: number;
  kind: "raster" | "photo" | "service";
  name: string;
  width: number | null;
  height: number | null;
  bounds: [number, number, number, number] | null;
  position: [number, number] | null;
  gsd_m: number | null;
  taken_at: string | null;
  town: string;
  event: string;
  before_id: number | null;
  tags: number;
  levels: number | null;
}

export interface Label {
  name: string;
  title: string;
  key: string;
  colour: string;
  damaged: boolean | null;
}

export interface LabelSet {
  id: number;
  name: string;
  version: number;
  labels: Label[];
}

/** First row, first column, side. */
export type Place = [row: number, col: number, side: number];

export interface Polygon {
  type: "Polygon" | "MultiPolygon";
  coordinates: number[][][] | number[][][][];
}

export interface Tag {
  id: string;
  scene: number;
  scene_name: string;
  square: Place | null;
  polygon: Polygon | null;
  chip: number | null;
  label: string | null;
  label_set: number;
  user: string;
  made_at: string;
  replaces: string | null;
  mine: boolean;
}

export interface TagBody {
  id: string;
  scene: number;
  square?: Place;
  polygon?: Polygon;
  label_set: number;
  label: string | null;
  replaces: string | null;
}

export interface Suggestion {
  scene: number;
  scene_name: string;
  square: Place;
  score: number | null;
  reason: string;
  model: number | null;
}

export interface Saying {
  model: number;
  method: string;
  score: number;
  label: string;
  threshold: number;
}

export interface Agreement {
  pairs: { first: string; second: string; both: number; same: number; kappa: number | null }[];
  overall: { both: number; same: number; kappa: number | null };
  disagreements: Disagreement[];
}

export interface Disagreement {
  chip: number;
  scene: number;
  square: Place;
  said: { user: string; label: string; tag: string }[];
}

export interface Run {
  id: number;
  run_id: string;
  method: string;
  scene: number | null;
  before: number | null;
  scene_name: string | null;
  totals: Record<string, unknown>;
  graded: boolean;
  table: string | null;
  bounds_px: [number, number, number, number] | null;
  reviewed: number;
  path_name: string;
  /** Why it cannot be shown. */
  problem?: string | null;
}

export type Verdict = "accepted" | "corrected" | "rejected";

export interface Review {
  number: number;
  verdict: Verdict | null;
  damage_class: number | null;
  user: string;
}

export interface Building {
  id: string;
  geometry: Polygon;
  properties: {
    damage_class: number;
    damage_score: number | null;
    p_none?: number | null;
    p_minor?: number | null;
    p_major?: number | null;
    p_destroyed?: number | null;
    valid_frac: number | null;
    area_m2: number | null;
    lon: number | null;
    lat: number | null;
    address?: string | null;
    review: Review | null;
  };
}

export interface ReviewBody {
  id: string;
  building_id: string;
  verdict: Verdict | null;
  damage_class: number | null;
  after: number;
}

export interface Counts {
  buildings: number;
  by_class: Record<string, number>;
  reviewed: Record<Verdict, number>;
  now: Record<string, number>;
}

export interface Code {
  code: number;
  name: string;
  colour: string;
  hatched?: boolean;
}

export interface Job {
  id: number;
  kind: string;
  state: "running" | "done" | "failed" | "stopped";
  told: string;
  done: number;
  began_at: string;
  ended_at: string | null;
  by: string;
}

/** Where the camera of a photo stood, in pixels of a raster. */
export interface PhotoPoint {
  id: number;
  name: string;
  taken_at: string | null;
  x: number;
  y: number;
}

/** What lies in a folder that the server watches; `told` has several lines. */
export interface Work {
  name: string;
  kind: string;
  state: string;
  running: boolean;
  progress: number | null;
  told: string;
  seconds_left: number | null;
  dashboard: string | null;
  /** Seconds since 1970. */
  changed_at: number;
}

export interface Model {
  id: number;
  method: string;
  state: "candidate" | "promoted" | "retired";
  metrics: Record<string, unknown>;
  made_at: string;
  by: string;
  parent: number | null;
  tags: number;
}

/** Somebody whom rows name. */
export interface Person extends User {
  active: boolean;
  may_log_in: boolean;
  made_at: string;
}

/** A line of the audit trail. */
export interface AuditEntry {
  id: number;
  at: string;
  user: string | null;
  action: string;
  subject: string;
  details: Record<string, unknown>;
}

export interface CurvePoint {
  model: number;
  tags: number;
  metrics: Record<string, unknown>;
}
