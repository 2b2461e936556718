/** Elements of the page. Whatever came from a file or a person goes in as text, never as markup. */

type Child = Node | string | null | false;

export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children.filter((child) => child !== null && child !== false));
  return made;
}

export function button(text: string, act: () => void, className = "", key = ""): HTMLButtonElement {
  const made = make("button", className, text);
  made.type = "button";
  if (key) {
    made.append(make("kbd", "", key));
    made.setAttribute("aria-keyshortcuts", key);
  }
  made.addEventListener("click", act);
  return made;
}

/** A control under its label. */
export function field(title: string, control: HTMLElement): HTMLLabelElement {
  return make("label", "field", make("span", "", title), control);
}

export function choice(
  options: [value: string, text: string][],
  chosen: string,
  act: (value: string) => void,
): HTMLSelectElement {
  const made = make("select");
  setOptions(made, options, chosen);
  made.addEventListener("change", () => act(made.value));
  return made;
}

/** New options for a select; the first is chosen where the wanted one is not among them. */
export function setOptions(
  select: HTMLSelectElement,
  options: [value: string, text: string][],
  chosen: string,
): void {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  select.value = options.some(([value]) => value === chosen) ? chosen : (options[0]?.[0] ?? "");
}

/** A square of colour beside a name. */
export function swatch(colour: string): HTMLElement {
  const made = make("i", "swatch");
  made.style.backgroundColor = colour;
  return made;
}

export function row(cell: "td" | "th", values: Child[]): HTMLTableRowElement {
  return make("tr", "", ...values.map((value) => make(cell, "", value)));
}

export function table(heads: string[], rows: Child[][]): HTMLElement {
  const head = row("th", heads);
  for (const cell of head.cells) cell.scope = "col";
  const body = make("tbody", "", ...rows.map((values) => row("td", values)));
  return make("div", "wide", make("table", "", make("thead", "", head), body));
}

export function decimals(value: number | null | undefined, digits: number): string {
  return typeof value === "number" ? value.toFixed(digits) : "–";
}

/** A whole number with thin spaces between thousands. */
export function figure(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** "1 tag", "2 tags". */
export function counted(value: number, what: string): string {
  return `${figure(value)} ${what}${value === 1 ? "" : "s"}`;
}

/** A moment as the reader's clock and calendar say it. */
export function moment(text: string | null): string {
  if (!text) return "";
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return today
    ? at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" })
    : at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
