// The table of runs, sorted and filtered, and the curves of those that are chosen.

import { ask } from "./api.js";
import { fittedPlot, legend, styleOf } from "./curves.js";
import { go, problemBox, say } from "./telling.js";
import { count, make, plain, score } from "./words.js";

const at = (id) => document.getElementById(id);
const state = { sort: "started", down: false, filters: new Map(), chosen: new Set(), all: false, search: "", curves: new Map(), ready: false };

/** A column: what it is called, what it sorts by, what it shows. */
function columnsOf(listed) {
  const fixed = [
    { key: "name", words: "Run", value: (run) => run.name, text: true },
    { key: "status", words: "Status", value: (run) => run.status, text: true, filtered: true },
    ...[["recall", "Recall"], ["roc_auc", "ROC AUC"], ["precision", "Precision"]].map(([key, words]) => ({ key, words, value: (run) => run.scores[key] ?? -1, shown: (run) => score(run.scores[key]) })),
    { key: "started", words: "Started", value: (run) => run.started, shown: (run) => run.started.slice(0, 16).replace("T", " ") },
    { key: "best_epoch", words: "Best epoch", value: (run) => run.best_epoch ?? -1, shown: (run) => `${run.best_epoch ?? "–"} of ${run.epochs_done}` },
  ];
  const names = state.all ? [...new Set(listed.runs.flatMap((run) => Object.keys(run.settings)))] : listed.differing;
  return fixed.concat(names.map((name) => ({ key: `setting ${name}`, words: name, value: (run) => run.settings[name]?.value ?? "", shown: (run) => run.settings[name]?.words ?? "–", changed: (run) => run.settings[name]?.changed, filtered: true, setting: true })));
}

const written = (column, run) => String(column.shown ? column.shown(run) : column.value(run));

function matches(run, columns) {
  for (const [key, wanted] of state.filters) {
    const column = columns.find((one) => one.key === key);
    if (column && wanted !== "" && written(column, run) !== wanted) return false;
  }
  return state.search.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    const [name, value] = word.split("=");
    if (value !== undefined) return Object.entries(run.settings).some(([setting, { words }]) => setting.includes(name) && words.toLowerCase().startsWith(value));
    return run.name.toLowerCase().includes(word) || run.status.includes(word) || Object.values(run.settings).some(({ words, changed }) => changed && words.toLowerCase().includes(word));
  });
}

function inOrder(runs, columns) {
  const column = columns.find((one) => one.key === state.sort) ?? columns[0];
  const sorted = [...runs].sort((a, b) => {
    const [x, y] = [column.value(a), column.value(b)];
    return typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  });
  return state.down ? sorted.reverse() : sorted;
}

const style = (listed, name) => styleOf([...state.chosen].filter((one) => listed.runs.some((run) => run.name === one)).indexOf(name));

function drawTable(listed) {
  const focused = document.activeElement?.dataset?.key;
  const columns = columnsOf(listed);
  const runs = inOrder(listed.runs.filter((run) => matches(run, columns)), columns);
  const head = make("tr", {}, make("th", { scope: "col" }, make("span", { class: "unseen" }, "Chosen")), columns.map((column) => {
    const sorted = column.key === state.sort;
    const button = make("button", { type: "button", class: "sort", dataset: { key: column.key }, onclick: () => {
      state.down = sorted ? !state.down : ["recall", "roc_auc", "precision"].includes(column.key);
      state.sort = column.key;
      drawTable(listed);
      say(`Sorted by ${column.words}, ${state.down ? "descending" : "ascending"}.`);
    } }, column.words, sorted ? make("span", { "aria-hidden": "true" }, state.down ? "↓" : "↑") : null);
    return make("th", { scope: "col", class: column.text ? "words" : "", "aria-sort": sorted ? (state.down ? "descending" : "ascending") : null }, button);
  }));
  const filters = make("tr", { class: "filters" }, make("th", {}), columns.map((column) => {
    if (!column.filtered) return make("th", {});
    const values = [...new Set(listed.runs.map((run) => written(column, run)))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    if (values.length < 2) return make("th", {});
    const chosen = state.filters.get(column.key) ?? "";
    return make("th", { class: column.text ? "words" : "" }, make("select", { "aria-label": `Only runs with ${column.words}`, dataset: { key: `filter ${column.key}` }, onchange: (event) => {
      state.filters.set(column.key, event.target.value);
      drawTable(listed);
    } }, make("option", { value: "" }, "all"), values.map((value) => make("option", { value, selected: value === chosen }, value))));
  }));
  const body = runs.map((run) => {
    const on = state.chosen.has(run.name);
    const box = make("input", { type: "checkbox", checked: on, "aria-label": `Choose ${run.name}`, dataset: { key: `choose ${run.name}` }, onchange: () => {
      if (on) state.chosen.delete(run.name); else state.chosen.add(run.name);
      drawAll(listed);
    } });
    const cells = columns.map((column) => {
      if (column.key === "name") {
        return make("td", { class: "words" }, make("span", { class: "name" }, run.name), on ? make("span", { class: "swatch", style: { background: style(listed, run.name).colour } }) : null, make("div", { class: "links" }, run.best_epoch ? [make("a", { href: `/?run=${encodeURIComponent(run.name)}` }, "read with it"), make("a", { href: `#images?run=${encodeURIComponent(run.name)}` }, "its mistakes")] : make("span", { class: "soft" }, "no epoch has ended")));
      }
      if (column.key === "status") return make("td", { class: "words" }, make("span", { class: `status ${run.status}` }, run.status));
      return make("td", { class: column.text ? "words" : "" }, make("span", { class: column.changed?.(run) ? "changed" : "" }, written(column, run)));
    });
    return make("tr", { class: on ? "on" : "" }, make("td", {}, box), cells);
  });
  at("runs-table").replaceChildren(make("table", {}, make("thead", {}, head, filters.querySelector("select") ? filters : ""), make("tbody", {}, body)), runs.length ? "" : make("p", { class: "empty-note" }, "No run is like that. Loosen the search or a filter."));
  if (focused) [...at("runs-table").querySelectorAll("[data-key]")].find((element) => element.dataset.key === focused)?.focus({ preventScroll: true });
}

async function curvesOf(name) {
  if (!state.curves.has(name)) state.curves.set(name, await ask(`/v1/runs/${encodeURIComponent(name)}/curves`));
  return state.curves.get(name);
}

let drawing = 0;

async function drawCurves(listed) {
  const turn = (drawing += 1);
  const names = [...state.chosen].filter((name) => listed.runs.some((run) => run.name === name && run.epochs_done));
  if (!names.length) {
    at("curves").replaceChildren(make("p", { class: "empty-note" }, "Choose runs in the table to see their curves together."));
    return;
  }
  try {
    const all = await Promise.all(names.map(curvesOf));
    if (turn !== drawing) return;
    const part = at("curve-part").value;
    const words = all[0].words;
    fill(at("curve-score"), Object.entries(words));
    const targets = [...new Set(all.flatMap((one) => Object.keys(one.parts[part]?.targets ?? {})))];
    fill(at("curve-target"), [["", "mean of all findings"], ...targets.map((target) => [target, plain(target)])]);
    const [key, target] = [at("curve-score").value, at("curve-target").value];
    const lines = all.map((one) => {
      const of = one.parts[part];
      const values = (target && key !== "loss" ? of?.targets[target] : of?.mean)?.[key] ?? [];
      return { name: one.name, epochs: values.length ? of.epochs : [], values, mark: one.best_epoch, ...style(listed, one.name) };
    });
    const title = `${words[key]} of ${target && key !== "loss" ? plain(target) : "all findings"} on ${part === "val" ? "validation" : "train"}, over the epochs, of ${names.join(", ")}`;
    const epochs = [...new Set(lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
    const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Epoch"), lines.map((line) => make("th", { scope: "col" }, line.name)))), make("tbody", {}, epochs.map((epoch) => make("tr", {}, make("td", {}, String(epoch)), lines.map((line) => make("td", {}, score(line.values[line.epochs.indexOf(epoch)])))))));
    at("curves").replaceChildren(fittedPlot(lines, { title, unit: "a ring marks the best epoch" }), legend(lines), make("details", {}, make("summary", {}, "The same as a table"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, table)));
  } catch (error) {
    at("curves").replaceChildren(problemBox(error));
  }
}

function fill(select, options) {
  const before = select.value;
  if ([...select.options].map((option) => option.value).join("\n") === options.map(([value]) => value).join("\n")) return;
  select.replaceChildren(...options.map(([value, words]) => make("option", { value, selected: value === before }, words)));
}

function drawAll(listed) {
  drawTable(listed);
  const chosen = [...state.chosen];
  at("chosen-count").textContent = chosen.length ? `${count(chosen.length, "run")} chosen` : "choose runs for curves and comparison";
  at("clear").hidden = !chosen.length;
  at("compare").disabled = chosen.length !== 2;
  drawCurves(listed);
}

export function showTable(listed) {
  if (!state.ready) {
    state.ready = true;
    const rated = listed.runs.filter((run) => run.best_epoch);
    for (const run of rated.slice(-4)) state.chosen.add(run.name);
    at("search").addEventListener("input", () => { state.search = at("search").value; drawTable(listed); });
    at("all-settings").addEventListener("change", () => { state.all = at("all-settings").checked; drawTable(listed); });
    at("clear").addEventListener("click", () => { state.chosen.clear(); drawAll(listed); });
    at("compare").addEventListener("click", () => { const [a, b] = state.chosen; go("comparison", { a, b }); });
    for (const id of ["curve-score", "curve-target", "curve-part"]) at(id).addEventListener("change", () => drawCurves(listed));
  }
  drawAll(listed);
}
