/** Everybody whom the catalog knows, and what they may do. */

import { get } from "../api";
import type { Person } from "../contract";
import { type Key, key } from "../keys";
import { warn } from "../messages";
import { button, make, moment, table } from "../page";
import type { Desk } from "../shell";
import { userDialog } from "./user_dialog";

export class Users {
  readonly element = make("section", "users");
  readonly keys: Key[] = [key("N", "Add a user", () => this.add())];
  private readonly list = make("div");
  private people: Person[] = [];

  constructor(private readonly desk: Desk) {
    const add = button("Add a user", () => this.add(), "main", "N");
    this.element.append(make("div", "buttons", add), this.list);
  }

  open(): void {
    void this.load();
  }

  /** Shows everybody; the one of a name gets the focus. */
  private async load(name = ""): Promise<void> {
    try {
      this.people = await get<Person[]>("/users");
    } catch (failure) {
      return warn(failure);
    }
    const rows = this.people.map((person) => [
      person.name,
      person.role,
      access(person),
      moment(person.made_at),
      this.change(person),
    ]);
    this.list.replaceChildren(table(["Name", "Role", "May log in", "Since", ""], rows));
    const place = this.people.findIndex((person) => person.name === name);
    this.list.querySelectorAll<HTMLElement>("tbody button")[place]?.focus();
  }

  private change(person: Person): HTMLButtonElement {
    const made = button("Change", () => this.ask(person));
    made.setAttribute("aria-label", `Change ${person.name}`);
    return made;
  }

  private add(): void {
    this.ask(null);
  }

  private ask(person: Person | null): void {
    const own = person?.name === this.desk.session.user.name;
    userDialog(person, own, (name) => void this.load(name));
  }
}

function access({ active, may_log_in }: Person): string {
  if (may_log_in) return "yes";
  return active ? "no, has no password" : "no, deactivated";
}
