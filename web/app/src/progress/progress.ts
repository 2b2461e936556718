/** The page where models are learnt and put in use. */

import { get, post } from "../api";
import type { CurvePoint, Job, Model, Work } from "../contract";
import { tell, warn } from "../messages";
import { button, choice, field, figure, make, moment, table } from "../page";
import type { Desk, Page } from "../shell";
import { Curve } from "./curve";
import { JobList } from "./jobs";
import { figureWords } from "./metrics";
import { WorkList } from "./works";

const EVERY = 3_000;

const HOW: [string, string][] = [
  ["mixed", "a mixture of all (recommended)"],
  ["uncertain", "what the model is least sure of"],
  ["diverse", "what differs most from what is tagged"],
  ["disagreement", "where models disagree"],
  ["audit", "chance, to examine the model"],
];

const LAYERS: [string, string][] = [
  ["last", "the last layer (a minute or so)"],
  ["all", "the whole network (longer; worth it from some hundred tags, or with random weights)"],
];

export function progressPage(desk: Desk): Page {
  return new Progress(desk);
}

class Progress implements Page {
  readonly element = make("div", "progressing");
  readonly keys = [];
  private readonly jobs: JobList;
  private readonly works = new WorkList();
  private readonly curve = new Curve();
  private readonly models = make("section", "models");
  private readonly start: HTMLButtonElement;
  private readonly timer: number;
  /** The jobs that ran when last looked: when one ends, there may be a new model. */
  private running = "";
  private closed = false;
  private polling = false;
  private how = HOW[0]![0];
  private layers = LAYERS[0]![0];
  private set: number | undefined;

  constructor(private readonly desk: Desk) {
    this.set = desk.labelSets[0]?.id;
    this.jobs = new JobList(desk.may("reviewer"), () => void this.poll());
    this.start = button("Learn from the tags", () => void this.learn(), "main");
    this.start.disabled = !desk.may("reviewer");
    this.element.append(this.works.element, this.learning(), this.jobs.element);
    this.element.append(this.models, this.curve.element);
    this.timer = setInterval(() => void this.poll(), EVERY);
    void this.poll();
    void this.load();
  }

  close(): void {
    this.closed = true;
    clearInterval(this.timer);
  }

  private learning(): HTMLElement {
    const sets = this.desk.labelSets.map(({ id, name }): [string, string] => [String(id), name]);
    const set = choice(sets, String(this.set), (id) => (this.set = Number(id)));
    const how = choice(HOW, this.how, (value) => (this.how = value));
    const layers = choice(LAYERS, this.layers, (value) => (this.layers = value));
    const made = make("section", "learning", make("h2", "", "Learning"));
    const form = make("div", "filters", field("Label set", set));
    form.append(field("What is learnt", layers), field("Suggest afterwards", how), this.start);
    made.append(form);
    if (this.start.disabled) made.append(make("p", "soft", "A reviewer's role starts learning."));
    return made;
  }

  private async poll(): Promise<void> {
    if (document.hidden || this.polling) return;
    this.polling = true;
    await this.look().finally(() => (this.polling = false));
  }

  private async look(): Promise<void> {
    const jobs = await get<Job[]>("/jobs").catch(() => null);
    const works = await get<Work[]>("/works").catch(() => null);
    if (this.closed) return;
    if (works) this.works.show(works);
    if (!jobs) return;
    this.jobs.show(jobs);
    const running = jobs
      .filter(({ state }) => state === "running")
      .map(({ id }) => id)
      .join();
    if (running !== this.running) void this.load();
    this.running = running;
  }

  private async load(): Promise<void> {
    try {
      const [models, points] = await Promise.all([
        get<Model[]>("/models"),
        get<CurvePoint[]>("/models/curve"),
      ]);
      if (this.closed) return;
      this.fill(models);
      this.curve.show(points);
    } catch (failure) {
      warn(failure);
    }
  }

  private fill(models: Model[]): void {
    const rows = models.map((model) => [
      String(model.id),
      model.method,
      make("span", `state ${model.state}`, model.state === "promoted" ? "in use" : model.state),
      figureWords(model.metrics),
      figure(model.tags),
      `${model.by}, ${moment(model.made_at)}`,
      model.state === "promoted" ? null : this.promotion(model),
    ]);
    const heads = ["Model", "Method", "State", "Figures", "Tags", "Made by", ""];
    this.models.replaceChildren(make("h2", "", "Models"));
    const none = make(
      "p",
      "soft",
      "No models yet. Tag chips of both kinds, then learn from the tags.",
    );
    this.models.append(rows.length ? table(heads, rows) : none);
  }

  private promotion(model: Model): HTMLButtonElement {
    const made = button("Put in use", () => void this.promote(model));
    made.setAttribute("aria-label", `Put model ${model.id} in use`);
    made.disabled = !this.desk.may("reviewer");
    return made;
  }

  private async promote(model: Model): Promise<void> {
    try {
      await post(`/models/${model.id}/promote`);
      tell(`Model ${model.id} is in use.`);
      await this.load();
    } catch (failure) {
      warn(failure);
    }
  }

  private async learn(): Promise<void> {
    this.start.disabled = true;
    try {
      await this.desk.outbox.send();
      const wanted = { label_set: this.set, how: this.how, layers: this.layers };
      const job = await post<Job>("/learn", wanted);
      tell(`Job ${job.id} learns from the tags.`);
      await this.poll();
    } catch (failure) {
      warn(failure);
    } finally {
      this.start.disabled = false;
    }
  }
}
