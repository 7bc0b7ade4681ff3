// The page of runs: which view is shown, and what is chosen, is in the address after the #.

import { ask } from "./api.js";
import { showComparison } from "./comparison.js";
import { showImages } from "./browser.js";
import { showTable } from "./table.js";
import { problemBox } from "./telling.js";
import { count, make } from "./words.js";

const at = (id) => document.getElementById(id);
const VIEWS = { table: showTable, comparison: showComparison, images: showImages };

/** What the address says: the view, and its parameters. */
function where() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view: view in VIEWS ? view : "table", asked: new URLSearchParams(query) };
}

let listed = null;

function show() {
  const { view, asked } = where();
  for (const name of Object.keys(VIEWS)) at(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  VIEWS[view](listed, asked);
}

try {
  listed = await ask("/v1/runs");
  at("about").textContent = `${count(listed.runs.length, "run")} in ${listed.folder}${listed.best ? ` · best by validation ROC AUC: ${listed.best}` : ""}`;
  at("problem").replaceChildren(...listed.problems.map((words) => make("div", { class: "callout flag" }, make("p", {}, words))));
  window.addEventListener("hashchange", show);
  show();
} catch (error) {
  at("problem").replaceChildren(problemBox(error));
}
