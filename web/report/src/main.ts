/** The report's page comes alive: without this script it stays a readable document. */

import "ol/ol.css";
import "./report.css";
import { startCard } from "./card";
import { Choice } from "./choice";
import { readData } from "./data";
import { startFilters } from "./filters";
import { startMap } from "./map";
import { startTable } from "./table";

const data = readData();
if (data) {
  document.documentElement.classList.add("live");
  const choice = new Choice(data.columns);
  startTable(data, choice);
  startCard(data, choice);
  const map = startMap(data, choice);
  startFilters(data, choice);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") choice.pick(-1, "keyboard");
  });
  map.once("rendercomplete", () => document.documentElement.classList.add("ready"));
}
