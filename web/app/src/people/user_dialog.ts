/** A user is added, changed, or let in no longer. */

import { post } from "../api";
import { type Person, ROLES, type Role } from "../contract";
import { openDialog } from "../keys";
import { tell } from "../messages";
import { button, choice, field, make } from "../page";

const MAY: Record<Role, string> = {
  viewer: "looks",
  tagger: "tags",
  reviewer: "reviews, learns",
  admin: "manages people",
};

/** For somebody who is there, or a new user; `done` is told whose name was changed. */
export function userDialog(
  person: Person | null,
  own: boolean,
  done: (name: string) => void,
): void {
  const name = make("input");
  name.autocomplete = "off";
  name.autocapitalize = "none";
  name.spellcheck = false;
  name.required = true;
  name.maxLength = 80;
  const roles = ROLES.map((role): [string, string] => [role, `${role}: ${MAY[role]}`]);
  const role = choice(roles, person?.role ?? "tagger", () => {});
  role.disabled = own;
  const password = make("input");
  password.type = "password";
  password.autocomplete = "new-password";
  password.minLength = 10;
  password.required = !person?.may_log_in;
  password.placeholder = password.required ? "10 characters or more" : "Stays as it is";
  const trouble = make("p", "trouble");
  trouble.setAttribute("role", "alert");
  const save = make("button", "main", person ? "Save" : "Add");
  save.type = "submit";

  const form = make("form", "user", !person && field("Name", name), field("Role", role));
  form.append(field("Password", password), trouble);
  const buttons = make("div", "buttons", save);
  form.append(buttons);
  const dialog = openDialog(person ? `Change ${person.name}` : "Add a user", form);
  const send = async (path: string, body: unknown, who: string, told: string): Promise<void> => {
    save.disabled = true;
    try {
      await post(path, body);
      dialog.close();
      tell(told);
      done(who);
    } catch (failure) {
      trouble.textContent = (failure as Error).message;
    } finally {
      save.disabled = false;
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const who = person?.name ?? name.value.trim();
    const said = { name: who, role: role.value, password: password.value || null, new: !person };
    const told = person ? `${who} is changed, and logs in again.` : `${who} may log in now.`;
    void send("/users", said, who, told);
  });
  if (person?.may_log_in && !own) {
    const path = `/users/${encodeURIComponent(person.name)}/deactivate`;
    const told = `${person.name} can log in no longer. What they said stays.`;
    buttons.append(button("Deactivate", () => void send(path, {}, person.name, told), "danger"));
  }
}
