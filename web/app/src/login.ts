/** The form that stands before everything else. */

import { type Session, logIn } from "./api";
import { field, make } from "./page";

export function loginForm(done: (session: Session) => void): HTMLElement {
  const name = make("input");
  name.autocomplete = "username";
  name.required = true;
  name.autocapitalize = "none";
  name.spellcheck = false;
  const password = make("input");
  password.type = "password";
  password.autocomplete = "current-password";
  password.required = true;
  const enter = make("button", "main", "Log in");
  enter.type = "submit";
  const trouble = make("p", "trouble");
  trouble.setAttribute("role", "alert");

  const form = make("form", "login", make("h1", "", "aftermap"), field("Name", name));
  form.append(field("Password", password), trouble, enter);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    enter.disabled = true;
    trouble.textContent = "";
    try {
      done(await logIn(name.value, password.value));
    } catch (failure) {
      trouble.textContent = (failure as Error).message;
      password.select();
    } finally {
      enter.disabled = false;
    }
  });
  setTimeout(() => name.focus());
  return form;
}
