/** How many buildings there are of each class, as predicted and with the reviews. */

import { get } from "../api";
import type { Code, Counts, Verdict } from "../contract";
import { figure, make, swatch } from "../page";

const EVERY = 3_000;
const VERDICTS: Verdict[] = ["accepted", "corrected", "rejected"];

export class CountTable {
  readonly element = make("section", "counts");
  private run = -1;
  private readonly timer: number;

  constructor(private readonly legend: Code[]) {
    this.element.setAttribute("aria-label", "Counts");
    this.timer = setInterval(() => void this.load(), EVERY);
  }

  use(run: number): void {
    this.run = run;
    this.element.replaceChildren();
    void this.load();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** A poll that fails is tried again by the next one. */
  async load(): Promise<void> {
    const { run } = this;
    if (run < 0 || document.hidden) return;
    const counts = await get<Counts>(`/runs/${run}/counts`).catch(() => null);
    if (counts && run === this.run) this.fill(counts);
  }

  private fill({ buildings, by_class, now, reviewed }: Counts): void {
    const rows = this.legend
      .filter(({ code }) => by_class[code] !== undefined || now[code] !== undefined)
      .map(({ code, name, colour }) => {
        const cells = [figure(by_class[code] ?? 0), figure(now[code] ?? 0)];
        const head = make("th", "", swatch(colour), name);
        head.scope = "row";
        return make("tr", "", head, ...cells.map((cell) => make("td", "n", cell)));
      });
    const heads = ["Class", "Run", "Reviewed"].map((name) => {
      const head = make("th", "", name);
      head.scope = "col";
      return head;
    });
    const all = VERDICTS.reduce((sum, verdict) => sum + (reviewed[verdict] ?? 0), 0);
    const told = VERDICTS.map((verdict) => `${figure(reviewed[verdict] ?? 0)} ${verdict}`);
    const head = make("thead", "", make("tr", "", ...heads));
    this.element.replaceChildren(
      make("table", "", head, make("tbody", "", ...rows)),
      make("p", "soft", `${figure(all)} of ${figure(buildings)} reviewed: ${told.join(", ")}`),
    );
  }
}
