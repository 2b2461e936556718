/** The app: the login form, then everything else. */

import "ol/ol.css";
import "./style/base.css";
import "./style/stage.css";
import "./style/pages.css";
import { type Session, onLoggedOut, resume } from "./api";
import { loginForm } from "./login";
import { warn } from "./messages";
import { button, make } from "./page";
import { startShell } from "./shell";

const app = document.getElementById("app")!;
let stop = (): void => {};

async function enter(session: Session): Promise<void> {
  try {
    stop = await startShell(app, session);
  } catch (failure) {
    again(failure);
  }
}

function askName(): void {
  stop();
  stop = (): void => {};
  app.replaceChildren(loginForm((session) => void enter(session)));
}

async function start(): Promise<void> {
  try {
    const session = await resume();
    if (session) await enter(session);
    else askName();
  } catch (failure) {
    again(failure);
  }
}

function again(failure: unknown): void {
  const retry = button("Try again", () => void start(), "main");
  app.replaceChildren(make("div", "login", make("p", "", (failure as Error).message), retry));
}

onLoggedOut(() => {
  warn("You are logged out. What you have said is kept here, and sent when you log in again.");
  askName();
});
void start();
