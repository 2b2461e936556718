/** The labels of a set as rows to fill in. */

import { post } from "../api";
import type { Label, LabelSet } from "../contract";
import { tell } from "../messages";
import { button, choice, field, make } from "../page";

const SAYS: [string, string][] = [
  ["true", "Yes"],
  ["false", "No"],
  ["null", "Unknown"],
];
const COLOURS = ["#d7191c", "#1a9641", "#9e9e9e", "#2166ac", "#fdae61", "#7b3294"];
const LEAST = 2;

interface Row {
  element: HTMLElement;
  label: () => Label;
}

/** A form for a set's next version, or a new set; `done` is called when it is saved or given up. */
export function labelForm(
  old: LabelSet | null,
  done: () => void,
): { form: HTMLFormElement; first: HTMLElement } {
  const name = nameInput("");
  const rows = make("div", "label-rows");
  const known: Row[] = [];
  const add = (label: Label): void => {
    const row = labelRow(label, () => {
      known.splice(known.indexOf(row), 1);
      row.element.remove();
      more.focus();
    });
    known.push(row);
    rows.append(row.element);
  };
  const more = button("Add a label", () => {
    add(empty(known.length));
    known.at(-1)!.element.querySelector("input")!.focus();
  });
  for (let k = 0; k < (old?.labels.length ?? LEAST); k++) add(old?.labels[k] ?? empty(k));

  const trouble = make("p", "trouble");
  trouble.setAttribute("role", "alert");
  const save = make("button", "main", "Save");
  save.type = "submit";
  const title = old ? `${old.name}, version ${old.version + 1}` : "New label set";
  const hint = "Tags keep the version that they were made with.";
  const form = make("form", "labelling", make("h2", "", title), !old && field("Name", name));
  form.append(rows, more, make("p", "soft", hint), trouble);
  form.append(make("div", "buttons", save, button("Cancel", done)));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    save.disabled = true;
    trouble.textContent = "";
    try {
      const labels = known.map(({ label }) => label());
      const body = { name: old?.name ?? name.value, labels, version: (old?.version ?? 0) + 1 };
      const made = await post<LabelSet>("/label-sets", body);
      const same = made.id === old?.id;
      tell(same ? "Nothing was changed." : `${made.name} has version ${made.version}.`);
      done();
    } catch (failure) {
      trouble.textContent = (failure as Error).message;
    } finally {
      save.disabled = false;
    }
  });
  return { form, first: old ? rows.querySelector("input")! : name };
}

function empty(place: number): Label {
  const colour = COLOURS[place % COLOURS.length]!;
  return { name: "", title: "", key: String(place + 1), colour, damaged: null };
}

function labelRow(label: Label, remove: () => void): Row {
  const title = text(label.title, 80);
  const name = nameInput(label.name);
  // A new label's name follows from its title until it is given one.
  let own = label.name !== "";
  title.addEventListener("input", () => {
    if (!own) name.value = plain(title.value);
  });
  name.addEventListener("input", () => (own = true));
  const letter = text(label.key, 1);
  const colour = make("input");
  colour.type = "color";
  colour.value = label.colour;
  const damaged = choice(SAYS, String(label.damaged), () => {});
  const gone = button("×", remove, "close");
  gone.setAttribute("aria-label", "Remove this label");
  const element = make("fieldset", "label-row", field("Title", title), field("Name", name));
  element.setAttribute("aria-label", "Label");
  element.append(field("Key", letter), field("Colour", colour), field("Damaged", damaged), gone);
  return {
    element,
    label: () => ({
      name: name.value,
      title: title.value.trim(),
      key: letter.value,
      colour: colour.value,
      damaged: JSON.parse(damaged.value) as boolean | null,
    }),
  };
}

function nameInput(value: string): HTMLInputElement {
  const made = text(value, 80);
  made.pattern = "[a-z0-9][a-z0-9_\\-]*";
  made.title = "Small letters, digits, - and _";
  return made;
}

function text(value: string, most: number): HTMLInputElement {
  const made = make("input");
  made.value = value;
  made.required = true;
  made.maxLength = most;
  made.autocomplete = "off";
  made.autocapitalize = "none";
  return made;
}

/** A title as a name: "Tiles missing" becomes "tiles-missing". */
function plain(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}
