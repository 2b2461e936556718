/** What runs in the background, and what ran. */

import { post } from "../api";
import type { Job } from "../contract";
import { openDialog } from "../keys";
import { tell, warn } from "../messages";
import { button, make, moment } from "../page";

const SHOWN = 10;

export class JobList {
  readonly element = make("section", "jobs", make("h2", "", "Jobs"));
  private readonly list = make("ul", "plain");
  /** By job: the list is made anew every few seconds, and the keyboard's focus stays. */
  private readonly stops = new Map<number, HTMLButtonElement>();

  constructor(
    private readonly mayStop: boolean,
    private readonly changed: () => void,
  ) {
    this.element.append(this.list);
  }

  show(jobs: Job[]): void {
    const focused = document.activeElement as HTMLElement | null;
    this.list.replaceChildren(...jobs.slice(0, SHOWN).map((job) => this.line(job)));
    if (!jobs.length) this.list.append(make("li", "soft", "Nothing has run yet."));
    if (this.list.contains(focused)) focused?.focus();
  }

  private line(job: Job): HTMLElement {
    const made = make("li", `job ${job.state}`);
    const when = job.ended_at ? `ended ${moment(job.ended_at)}` : `since ${moment(job.began_at)}`;
    made.append(make("b", "", nameOf(job)), ` ${job.state} · ${when} · ${job.by}`);
    if (job.state === "running") {
      const bar = make("progress");
      bar.max = 1;
      bar.value = job.done;
      bar.setAttribute("aria-label", nameOf(job));
      made.append(bar);
    }
    if (job.told) made.append(make("p", job.state === "failed" ? "trouble" : "soft", job.told));
    if (job.state === "running" && this.mayStop) made.append(this.stopper(job));
    return made;
  }

  private stopper(job: Job): HTMLButtonElement {
    let made = this.stops.get(job.id);
    if (!made) {
      made = button("Stop", () => this.ask(job));
      made.setAttribute("aria-label", `Stop ${nameOf(job)}`);
      this.stops.set(job.id, made);
    }
    return made;
  }

  private ask(job: Job): void {
    const words = "No new model comes of it. Tags and models stay as they are.";
    const stop = (): void => {
      dialog.close();
      void this.stop(job);
    };
    const sure = button(`Stop ${nameOf(job)}`, stop, "danger");
    const dialog = openDialog(`Stop ${nameOf(job)}?`, make("p", "", words), sure);
    // An Enter that is held down shall not answer.
    (dialog.lastElementChild as HTMLElement).focus();
  }

  private async stop(job: Job): Promise<void> {
    try {
      await post(`/jobs/${job.id}/stop`);
      tell(`${nameOf(job)} is stopped.`);
    } catch (failure) {
      warn(failure);
    }
    this.changed();
  }
}

function nameOf(job: Job): string {
  return `${job.kind} ${job.id}`;
}
