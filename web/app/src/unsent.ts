/** How much is not sent yet, in the header; a click lists it. */

import { openDialog } from "./keys";
import type { Entry, Outbox } from "./outbox";
import { button, make } from "./page";

export function unsentButton(outbox: Outbox): HTMLElement {
  const pill = button("", () => list(outbox), "unsent");
  const count = make("span", "unseen");
  count.setAttribute("aria-live", "polite");
  const recount = (): void => {
    const entries = outbox.entries();
    const refused = entries.filter((entry) => entry.refused).length;
    const waiting = entries.length - refused;
    const told = [waiting && `${waiting} unsent`, refused && `${refused} refused`].filter(Boolean);
    pill.textContent = told.join(", ") || "All sent";
    pill.classList.toggle("waiting", outbox.stuck && waiting > 0);
    pill.classList.toggle("refused", refused > 0);
    count.textContent = outbox.stuck && waiting ? `${waiting} unsent: no connection` : "";
  };
  outbox.listen({ changed: recount });
  recount();
  return make("span", "", pill, count);
}

function list(outbox: Outbox): void {
  const rows = make("ul", "plain");
  const fill = (): void => {
    const entries = outbox.entries();
    rows.replaceChildren(...entries.map((entry) => line(entry, outbox)));
    if (!entries.length) rows.append(make("li", "", "Everything has reached the server."));
  };
  fill();
  const again = button("Send now", () => void outbox.send());
  const dialog = openDialog("Not sent yet", rows, again);
  const stop = outbox.listen({ changed: fill });
  dialog.addEventListener("close", () => void stop());
}

function line(entry: Entry, outbox: Outbox): HTMLElement {
  const made = make("li", "", entry.title);
  if (entry.refused) {
    made.append(make("p", "trouble", entry.refused));
    made.append(button("Discard", () => outbox.discard(entry)));
  }
  return made;
}
