/** The header, and the page below it that the address names. */

import { type Session, get, logOut } from "./api";
import { browsePage } from "./browse/browse";
import { type LabelSet, ROLES, type Role, type Scene } from "./contract";
import { type Key, help, startKeys } from "./keys";
import { newestOf } from "./labels";
import { mapPage } from "./map/map";
import { warn } from "./messages";
import { Outbox } from "./outbox";
import { button, make } from "./page";
import { peoplePage } from "./people/people";
import { progressPage } from "./progress/progress";
import { tagPage } from "./tag/tag";
import { unsentButton } from "./unsent";

/** What pages are given. */
export interface Desk {
  session: Session;
  outbox: Outbox;
  /** Every version of every label set: tags keep the one that they were made with. */
  labelVersions: LabelSet[];
  /** The newest version of each. */
  labelSets: LabelSet[];
  scenes: Scene[];
  /** Whether the user's role includes another. */
  may: (role: Role) => boolean;
}

export interface Page {
  element: HTMLElement;
  keys: Key[];
  close: () => void;
}

type Opener = (desk: Desk, query: URLSearchParams) => Page;

/** A page that names a role is for those who have it. */
const PAGES: Record<string, [title: string, open: Opener, role?: Role]> = {
  tag: ["Tag", tagPage],
  browse: ["Browse", browsePage],
  map: ["Map", mapPage],
  progress: ["Progress", progressPage],
  people: ["People", peoplePage, "admin"],
};

export async function startShell(into: HTMLElement, session: Session): Promise<() => void> {
  const [labelVersions, scenes] = await Promise.all([
    get<LabelSet[]>("/label-sets", { every: "true" }),
    get<Scene[]>("/scenes"),
  ]);
  const { name, role } = session.user;
  const outbox = new Outbox(name);
  const may = (wanted: Role): boolean => ROLES.indexOf(role) >= ROLES.indexOf(wanted);
  const labelSets = newestOf(labelVersions);
  const desk: Desk = { session, outbox, labelVersions, labelSets, scenes, may };
  let page: Page | null = null;

  const own = Object.entries(PAGES).filter(([, [, , needed]]) => !needed || may(needed));
  const tabs = own.map(([id, [title]]) => {
    const tab = make("a", "", title);
    tab.href = `#/${id}`;
    return tab;
  });
  const out = button("Log out", () => void leave(outbox), "quiet");
  const keys = button(
    "Keys",
    help(() => page?.keys ?? []),
    "quiet",
    "?",
  );
  const nav = make("nav", "", ...tabs);
  nav.setAttribute("aria-label", "Pages");
  const header = make("header", "", make("strong", "brand", "aftermap"), nav);
  header.append(unsentButton(outbox), keys, make("span", "who", `${name} (${role})`), out);
  const main = make("main");
  into.replaceChildren(header, main);

  const open = (): void => {
    const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const id = path in PAGES ? path : "tag";
    const [title, opener, needed] = PAGES[id]!;
    page?.close();
    const closed = needed && !may(needed);
    page = closed ? closedPage(title, needed) : opener(desk, new URLSearchParams(query));
    document.title = `${title} – aftermap`;
    for (const tab of tabs) {
      if (tab.hash === `#/${id}`) tab.setAttribute("aria-current", "page");
      else tab.removeAttribute("aria-current");
    }
    main.replaceChildren(page.element);
  };
  open();
  addEventListener("hashchange", open);
  const stopKeys = startKeys(() => page?.keys ?? []);
  void outbox.send();
  return () => {
    removeEventListener("hashchange", open);
    stopKeys();
    page?.close();
    outbox.close();
  };
}

function closedPage(title: string, needed: Role): Page {
  const words = `${title} is for those who have the role ${needed}.`;
  return { element: make("p", "nothing", words), keys: [], close: () => {} };
}

async function leave(outbox: Outbox): Promise<void> {
  await outbox.send();
  const unsent = outbox.entries().length;
  const sure = !unsent || confirm(`${unsent} not sent yet. They stay in this browser. Log out?`);
  if (!sure) return;
  try {
    await logOut();
    location.reload();
  } catch (failure) {
    warn(failure);
  }
}
