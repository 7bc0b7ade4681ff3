// The table of runs, sorted and filtered, and the curves of the selected ones.

import { request } from "./api.js";
import { fittedPlot, legend, styleOf } from "./curves.js";
import { byId, hiddenText, make, navigate, tableHead } from "./dom.js";
import { count, displayName, formatScore } from "./format.js";
import { announce, errorBox } from "./messages.js";

const SCORE_COLUMNS = { recall: "Recall", roc_auc: "ROC AUC", precision: "Precision" };
const PRESELECTED = 4;

const state = { sort: "started", descending: false, filters: new Map(), selected: new Set(), allSettings: false, search: "", curves: new Map(), ready: false };

/** A column: its title, the value that it sorts by, and the text that it shows. */
function columnsOf(overview) {
  const fixed = [
    { key: "name", title: "Run", value: (run) => run.name, isText: true },
    { key: "status", title: "Status", value: (run) => run.status, isText: true, hasFilter: true },
    ...Object.entries(SCORE_COLUMNS).map(([key, title]) => ({ key, title, value: (run) => run.scores[key] ?? -1, text: (run) => formatScore(run.scores[key]) })),
    { key: "started", title: "Started", value: (run) => run.started, text: (run) => run.started.slice(0, 16).replace("T", " ") },
    { key: "best_epoch", title: "Best epoch", value: (run) => run.best_epoch ?? -1, text: (run) => `${run.best_epoch ?? "–"} of ${run.epochs_done}` },
  ];
  const settings = state.allSettings ? [...new Set(overview.runs.flatMap((run) => Object.keys(run.settings)))] : overview.differing;
  return fixed.concat(settings.map((name) => ({ key: `setting ${name}`, title: name, value: (run) => run.settings[name]?.value ?? "", text: (run) => run.settings[name]?.text ?? "–", isChanged: (run) => run.settings[name]?.changed, hasFilter: true })));
}

const cellText = (column, run) => String(column.text ? column.text(run) : column.value(run));

function matches(run, columns) {
  for (const [key, required] of state.filters) {
    const column = columns.find((each) => each.key === key);
    if (column && required !== "" && cellText(column, run) !== required) return false;
  }
  return state.search.toLowerCase().split(/\s+/).filter(Boolean).every((term) => {
    const [name, value] = term.split("=");
    if (value !== undefined) return Object.entries(run.settings).some(([setting, { text }]) => setting.includes(name) && text.toLowerCase().startsWith(value));
    return run.name.toLowerCase().includes(term) || run.status.includes(term) || Object.values(run.settings).some(({ text, changed }) => changed && text.toLowerCase().includes(term));
  });
}

function sortRuns(runs, columns) {
  const column = columns.find((each) => each.key === state.sort) ?? columns[0];
  const sorted = [...runs].sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  });
  return state.descending ? sorted.reverse() : sorted;
}

const lineStyle = (overview, name) => styleOf([...state.selected].filter((each) => overview.runs.some((run) => run.name === each)).indexOf(name));

function drawTable(overview) {
  const focused = document.activeElement?.dataset?.key;
  const columns = columnsOf(overview);
  const runs = sortRuns(overview.runs.filter((run) => matches(run, columns)), columns);
  const titles = make("tr", {}, make("th", { scope: "col" }, hiddenText("Selected")), columns.map((column) => titleCell(overview, column)));
  const filters = make("tr", { class: "filters" }, make("th", {}), columns.map((column) => filterCell(overview, column)));
  const table = make("table", {}, make("thead", {}, titles, filters.querySelector("select") ? filters : ""), make("tbody", {}, runs.map((run) => runRow(overview, columns, run))));
  byId("runs-table").replaceChildren(table, runs.length ? "" : make("p", { class: "empty-note" }, "No run matches the search and the filters."));
  if (focused) [...byId("runs-table").querySelectorAll("[data-key]")].find((element) => element.dataset.key === focused)?.focus({ preventScroll: true });
}

function titleCell(overview, column) {
  const isSorted = column.key === state.sort;
  const sort = () => {
    state.descending = isSorted ? !state.descending : column.key in SCORE_COLUMNS;
    state.sort = column.key;
    drawTable(overview);
    announce(`Sorted by ${column.title}, ${state.descending ? "descending" : "ascending"}.`);
  };
  const arrow = isSorted ? make("span", { "aria-hidden": "true" }, state.descending ? "↓" : "↑") : null;
  const button = make("button", { type: "button", class: "sort", dataset: { key: column.key }, onclick: sort }, column.title, arrow);
  return make("th", { scope: "col", class: column.isText ? "text" : "", "aria-sort": isSorted ? (state.descending ? "descending" : "ascending") : null }, button);
}

function filterCell(overview, column) {
  if (!column.hasFilter) return make("th", {});
  const texts = [...new Set(overview.runs.map((run) => cellText(column, run)))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (texts.length < 2) return make("th", {});
  const chosen = state.filters.get(column.key) ?? "";
  const filter = (event) => {
    state.filters.set(column.key, event.target.value);
    drawTable(overview);
  };
  const options = [make("option", { value: "" }, "all"), texts.map((text) => make("option", { value: text, selected: text === chosen }, text))];
  return make("th", { class: column.isText ? "text" : "" }, make("select", { "aria-label": `Only runs with ${column.title}`, dataset: { key: `filter ${column.key}` }, onchange: filter }, options));
}

function runRow(overview, columns, run) {
  const isSelected = state.selected.has(run.name);
  const toggle = () => {
    if (isSelected) state.selected.delete(run.name); else state.selected.add(run.name);
    drawAll(overview);
  };
  const box = make("input", { type: "checkbox", checked: isSelected, "aria-label": `Select ${run.name}`, dataset: { key: `select ${run.name}` }, onchange: toggle });
  const cells = columns.map((column) => {
    if (column.key === "name") return nameCell(overview, run, isSelected);
    if (column.key === "status") return make("td", { class: "text" }, make("span", { class: `status ${run.status}` }, run.status));
    return make("td", { class: column.isText ? "text" : "" }, make("span", { class: column.isChanged?.(run) ? "changed" : "" }, cellText(column, run)));
  });
  return make("tr", { class: isSelected ? "chosen" : "" }, make("td", {}, box), cells);
}

function nameCell(overview, run, isSelected) {
  const query = `?run=${encodeURIComponent(run.name)}`;
  const links = run.best_epoch ? [make("a", { href: `/${query}` }, "read images"), make("a", { href: `#images${query}` }, "show errors")] : make("span", { class: "muted" }, "no finished epoch");
  const swatch = isSelected ? make("span", { class: "swatch", style: { background: lineStyle(overview, run.name).colour } }) : null;
  return make("td", { class: "text" }, make("span", { class: "name" }, run.name), swatch, make("div", { class: "links" }, links));
}

async function loadCurves(name) {
  if (!state.curves.has(name)) state.curves.set(name, await request(`/v1/runs/${encodeURIComponent(name)}/curves`));
  return state.curves.get(name);
}

let lastDrawing = 0;

async function drawCurves(overview) {
  const drawing = (lastDrawing += 1);
  const names = [...state.selected].filter((name) => overview.runs.some((run) => run.name === name && run.epochs_done));
  if (!names.length) {
    byId("curves").replaceChildren(make("p", { class: "empty-note" }, "Select runs in the table to plot their curves together."));
    return;
  }
  try {
    const curves = await Promise.all(names.map(loadCurves));
    if (drawing !== lastDrawing) return;
    const part = byId("curve-part").value;
    const { labels } = curves[0];
    fillSelect(byId("curve-score"), Object.entries(labels));
    const targets = [...new Set(curves.flatMap((each) => Object.keys(each.parts[part]?.targets ?? {})))];
    fillSelect(byId("curve-target"), [["", "mean of all findings"], ...targets.map((target) => [target, displayName(target)])]);
    const score = byId("curve-score").value;
    const target = score === "loss" ? "" : byId("curve-target").value;
    const lines = curves.map((each) => {
      const scores = each.parts[part];
      const values = (target ? scores?.targets[target] : scores?.mean)?.[score] ?? [];
      return { name: each.name, epochs: values.length ? scores.epochs : [], values, bestEpoch: each.best_epoch, ...lineStyle(overview, each.name) };
    });
    const title = `${labels[score]} of ${target ? displayName(target) : "all findings"} on the ${part === "val" ? "validation" : "training"} part over the epochs, for ${names.join(", ")}`;
    const table = make("details", {}, make("summary", {}, "Show as a table"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, curvesTable(lines)));
    byId("curves").replaceChildren(fittedPlot(lines, { title, note: "a ring marks the best epoch" }), legend(lines), table);
  } catch (error) {
    byId("curves").replaceChildren(errorBox(error));
  }
}

function curvesTable(lines) {
  const epochs = [...new Set(lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
  const rows = epochs.map((epoch) => make("tr", {}, make("td", {}, String(epoch)), lines.map((line) => make("td", {}, formatScore(line.values[line.epochs.indexOf(epoch)])))));
  return make("table", {}, tableHead(["Epoch", ...lines.map((line) => line.name)]), make("tbody", {}, rows));
}

function fillSelect(select, options) {
  const before = select.value;
  if ([...select.options].map((option) => option.value).join("\n") === options.map(([value]) => value).join("\n")) return;
  select.replaceChildren(...options.map(([value, label]) => make("option", { value, selected: value === before }, label)));
}

function drawAll(overview) {
  drawTable(overview);
  byId("selected-count").textContent = state.selected.size ? `${count(state.selected.size, "run")} selected` : "select runs for curves and comparison";
  byId("clear").hidden = !state.selected.size;
  byId("compare").disabled = state.selected.size !== 2;
  drawCurves(overview);
}

export function showTable(overview) {
  if (!state.ready) {
    state.ready = true;
    for (const run of overview.runs.filter((each) => each.best_epoch).slice(-PRESELECTED)) state.selected.add(run.name);
    byId("search").addEventListener("input", () => { state.search = byId("search").value; drawTable(overview); });
    byId("all-settings").addEventListener("change", () => { state.allSettings = byId("all-settings").checked; drawTable(overview); });
    byId("clear").addEventListener("click", () => { state.selected.clear(); drawAll(overview); });
    byId("compare").addEventListener("click", () => { const [a, b] = state.selected; navigate("comparison", { a, b }); });
    for (const id of ["curve-score", "curve-target", "curve-part"]) byId(id).addEventListener("change", () => drawCurves(overview));
  }
  drawAll(overview);
}
