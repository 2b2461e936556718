/** What runs in the background, and what ran. */

import type { Job } from "../contract";
import { make, moment } from "../page";

const SHOWN = 10;

export class JobList {
  readonly element = make("section", "jobs", make("h2", "", "Jobs"));
  private readonly list = make("ul", "plain");

  constructor() {
    this.element.append(this.list);
  }

  show(jobs: Job[]): void {
    this.list.replaceChildren(...jobs.slice(0, SHOWN).map(line));
    if (!jobs.length) this.list.append(make("li", "soft", "Nothing has run yet."));
  }
}

function line(job: Job): HTMLElement {
  const made = make("li", `job ${job.state}`);
  const when = job.ended_at ? `ended ${moment(job.ended_at)}` : `since ${moment(job.began_at)}`;
  made.append(make("b", "", `${job.kind} ${job.id}`), ` ${job.state} · ${when} · ${job.by}`);
  if (job.state === "running") {
    const bar = make("progress");
    bar.max = 1;
    bar.value = job.done;
    bar.setAttribute("aria-label", `${job.kind} ${job.id}`);
    made.append(bar);
  }
  if (job.told) made.append(make("p", job.state === "failed" ? "trouble" : "soft", job.told));
  return made;
}
