/** The views of one page, of which one is shown. */

import type { Key } from "./keys";
import { button, make } from "./page";
import type { Page } from "./shell";

export interface View {
  element: HTMLElement;
  keys: Key[];
  open: () => void;
  close?: () => void;
}

/** Buttons to choose a view with, and the place where it is shown. */
export class Views {
  readonly buttons = make("div", "views");
  readonly inside = make("div", "inside");
  private readonly tabs: [HTMLButtonElement, View][];

  constructor(
    views: [title: string, view: View][],
    private current = views[0]![1],
  ) {
    this.tabs = views.map(([title, view]) => [button(title, () => this.show(view)), view]);
    this.buttons.append(...this.tabs.map(([tab]) => tab));
    this.buttons.setAttribute("role", "group");
    this.buttons.setAttribute("aria-label", "What is shown");
    queueMicrotask(() => this.show(this.current));
  }

  get keys(): Key[] {
    return this.current.keys;
  }

  close(): void {
    this.current.close?.();
  }

  private show(view: View): void {
    this.close();
    this.current = view;
    for (const [tab, its] of this.tabs) tab.setAttribute("aria-pressed", String(its === view));
    this.inside.replaceChildren(view.element);
    view.open();
  }
}

/** A view that is made when it is opened, and given up when it is closed. */
export function madeAnew(open: () => Page): View {
  const element = make("div");
  let page: Page | null = null;
  return {
    element,
    get keys() {
      return page?.keys ?? [];
    },
    open: () => {
      page = open();
      element.replaceChildren(page.element);
    },
    close: () => {
      page?.close();
      page = null;
    },
  };
}
