/** The page of admins: who may log in, what tags can say, and who did what. */

import { make } from "../page";
import type { Desk, Page } from "../shell";
import { Views } from "../views";
import { AuditTrail } from "./audit";
import { LabelSets } from "./label_sets";
import { Users } from "./users";

export function peoplePage(desk: Desk): Page {
  const views = new Views([
    ["Users", new Users(desk)],
    ["Label sets", new LabelSets(desk)],
    ["Audit trail", new AuditTrail()],
  ]);
  return {
    element: make("div", "peopling", make("div", "top", views.buttons), views.inside),
    get keys() {
      return views.keys;
    },
    close: () => views.close(),
  };
}
