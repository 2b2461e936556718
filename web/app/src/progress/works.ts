/** Runs, regions and trainings that work on this machine, or did. */

import type { Work } from "../contract";
import { make, moment } from "../page";

const SHOWN = 12;

export class WorkList {
  readonly element = make("section", "works", make("h2", "", "Runs"));
  private readonly list = make("ul", "plain");
  private said = "";
  /** The works whose words somebody unfolded: a list is made anew every few seconds. */
  private readonly open = new Set<string>();

  constructor() {
    this.element.append(this.list);
  }

  show(works: Work[]): void {
    // What is the same stays, with the keyboard's focus in it.
    const said = JSON.stringify(works);
    if (said === this.said) return;
    this.said = said;
    this.list.replaceChildren(...works.slice(0, SHOWN).map((work) => this.line(work)));
    if (!works.length) {
      const none = "No run, region or training lies in the folders that this server watches (--runs).";
      this.list.append(make("li", "soft", none));
    }
  }

  private line(work: Work): HTMLElement {
    const made = make("li", `job ${work.state}`);
    const share = work.progress === null ? "" : ` · ${Math.floor(100 * work.progress)} %`;
    const left = work.seconds_left === null ? "" : ` · about ${duration(work.seconds_left)} left`;
    const since = work.running ? "" : ` · ${moment(new Date(1000 * work.changed_at).toISOString())}`;
    made.append(make("b", "", work.name), ` · ${work.kind} · ${work.state}${share}${left}${since}`);
    if (work.running) made.append(bar(work));
    if (work.dashboard) made.append(dashboard(work.dashboard));
    made.append(this.words(work));
    return made;
  }

  private words(work: Work): HTMLElement {
    const made = make("details", "", make("summary", "", "More"), make("pre", "soft", work.told));
    made.open = this.open.has(work.name);
    made.addEventListener("toggle", () => {
      if (made.open) this.open.add(work.name);
      else this.open.delete(work.name);
    });
    return made;
  }
}

function bar(work: Work): HTMLElement {
  const made = make("progress");
  made.max = 1;
  if (work.progress !== null) made.value = work.progress;
  made.setAttribute("aria-label", work.name);
  return made;
}

/** A link where this browser can follow it: a dashboard is open to its own machine only. */
function dashboard(told: string): HTMLElement {
  const [address = "", ...way] = told.split(" ");
  const here = ["127.0.0.1", "localhost", "[::1]"].includes(location.hostname);
  const inside = /^https?:\/\/127\.0\.0\.1[:/]/.test(address);
  const made = make("p", "soft");
  if (!/^https?:\/\//.test(address)) return made;
  if (inside && !here) {
    made.append(`Dashboard of the cluster, to be opened on the server: ${told}`);
    return made;
  }
  const link = make("a", "", "Dashboard of the cluster");
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  made.append(link, way.length ? ` ${way.join(" ")}` : "");
  return made;
}

function duration(seconds: number): string {
  const minutes = Math.round(seconds / 60);
  if (minutes < 2) return "a minute";
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}
