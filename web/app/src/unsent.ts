/** How much is not sent yet, in the header; a click lists it. */

import { openDialog } from "./keys";
import { type Entry, type Outbox, isStuck } from "./outbox";
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
    const trouble = waiting ? outbox.trouble : "";
    pill.classList.toggle("waiting", trouble !== "");
    pill.classList.toggle("refused", refused > 0);
    count.textContent = trouble && `${waiting} unsent. ${trouble}`;
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
  const words = entry.refused || (isStuck(entry) && entry.failed?.words);
  if (!words) return made;
  const buttons = make("div", "buttons");
  if (entry.refused) buttons.append(button("Send again", () => outbox.revive(entry)));
  buttons.append(button("Discard", () => outbox.discard(entry)));
  made.append(make("p", "trouble", words), buttons);
  return made;
}
