// The page of runs. The view and its selection are in the address, after the #.

import { request } from "./api.js";
import { showComparison } from "./comparison.js";
import { byId, make } from "./dom.js";
import { showImages } from "./error_gallery.js";
import { count } from "./format.js";
import { errorBox } from "./messages.js";
import { showTable } from "./runs_table.js";

const VIEWS = { table: showTable, comparison: showComparison, images: showImages };

/** The view and its parameters in the address. */
function parseAddress() {
  const [view, query = ""] = location.hash.slice(1).split("?");
  return { view: view in VIEWS ? view : "table", params: new URLSearchParams(query) };
}

function showView(overview) {
  const { view, params } = parseAddress();
  for (const name of Object.keys(VIEWS)) byId(`view-${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  VIEWS[view](overview, params);
}

try {
  const overview = await request("/v1/runs");
  byId("about").textContent = `${count(overview.runs.length, "run")} in ${overview.folder}${overview.best ? ` · best by validation ROC AUC: ${overview.best}` : ""}`;
  byId("problem").replaceChildren(...overview.problems.map((problem) => make("div", { class: "callout flag" }, make("p", {}, problem))));
  window.addEventListener("hashchange", () => showView(overview));
  showView(overview);
} catch (error) {
  byId("problem").replaceChildren(errorBox(error));
}
