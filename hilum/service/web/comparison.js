// Two runs compared: what differs, the conclusion, and the difference of each score with its interval.

import { request } from "./api.js";
import { byId, download, hiddenText, make, navigate, tableHead } from "./dom.js";
import { count, displayName, formatScore, formatSigned } from "./format.js";
import { announce, busy, errorBox } from "./messages.js";

const SCORES = {
  recall: "Recall", roc_auc: "ROC AUC", recall_at_matched_precision: "Recall at matched precision", avg_precision: "Average precision",
  precision: "Precision", specificity: "Specificity", predicted_positive_rate: "Predicted positive",
};
const VERDICTS = { better: "▲ better", worse: "▼ worse", higher: "▲ higher", lower: "▼ lower" };

const state = { ready: false, shown: "", score: "recall", comparison: null };

export function showComparison(overview, params) {
  const evaluated = overview.runs.filter((run) => run.best_epoch).map((run) => run.name);
  if (!state.ready) {
    state.ready = true;
    for (const [id, other] of [["run-a", "run-b"], ["run-b", "run-a"]]) {
      byId(id).replaceChildren(...evaluated.map((name) => make("option", { value: name }, name)));
      byId(id).addEventListener("change", () => {
        if (byId(id).value === byId(other).value) byId(other).value = evaluated.find((name) => name !== byId(id).value);
        navigate("comparison", { a: byId("run-a").value, b: byId("run-b").value });
      });
    }
    byId("swap").addEventListener("click", () => navigate("comparison", { a: byId("run-b").value, b: byId("run-a").value }));
    byId("save-json").addEventListener("click", () => download(JSON.stringify(state.comparison, null, 2), "hilum-comparison.json", "application/json"));
    byId("save-page").addEventListener("click", savePage);
  }
  if (evaluated.length < 2) {
    byId("compared").replaceChildren(make("p", { class: "empty-note card" }, `A comparison needs two runs with a finished epoch; this folder has ${evaluated.length ? "one" : "none"}.`));
    return;
  }
  const a = evaluated.includes(params.get("a")) ? params.get("a") : evaluated.at(-2);
  const b = evaluated.includes(params.get("b")) && params.get("b") !== a ? params.get("b") : evaluated.filter((name) => name !== a).at(-1);
  byId("run-a").value = a;
  byId("run-b").value = b;
  compare(a, b);
}

const query = () => `a=${encodeURIComponent(byId("run-a").value)}&b=${encodeURIComponent(byId("run-b").value)}`;

async function savePage() {
  byId("save-page").disabled = true;
  try {
    download(await request(`/v1/comparison.html?${query()}`, { as: "blob" }), "hilum-comparison.html", "text/html");
  } catch (error) {
    byId("compared").prepend(errorBox(error));
  }
  byId("save-page").disabled = false;
}

async function compare(a, b) {
  const key = `${a}\n${b}`;
  if (state.shown === key) return;
  state.shown = key;
  for (const id of ["save-json", "save-page"]) byId(id).disabled = true;
  byId("compared").replaceChildren(busy(`Comparing ${a} with ${b}: 1,000 bootstrap samples of the patients …`));
  try {
    const comparison = await request(`/v1/comparison?${query()}`);
    if (state.shown !== key) return;
    state.comparison = comparison;
    drawComparison();
    for (const id of ["save-json", "save-page"]) byId(id).disabled = false;
    announce(comparison.comparisons[0].changes.statement);
  } catch (error) {
    if (state.shown !== key) return;
    state.shown = "";
    byId("compared").replaceChildren(errorBox(error));
  }
}

const notesList = (notes) => (notes.length ? make("ul", { class: "notes" }, notes.map((note) => make("li", {}, note))) : null);
const verdictPill = ({ verdict }) => make("span", { class: `pill ${verdict}` }, VERDICTS[verdict] ?? verdict);
const intervalText = ({ low, high }) => `${formatSigned(low)} to ${formatSigned(high)}`;

function drawComparison() {
  const [side] = state.comparison.comparisons;
  const claim = side.about_settings.available ? side.about_settings : side.about_models;
  const { images, patients, design } = side.images;
  const basis = `${count(images, "validation image")} of ${count(patients, "patient")}, ${design}. Intervals are 95 %, over patients; p-values are corrected for the number of findings.`;
  byId("compared").replaceChildren(
    make("div", { class: "verdict-head" },
      make("section", { class: "card pad" }, make("h2", {}, side.changes.statement), make("p", {}, claim.statement), make("p", { class: "muted" }, basis), notesList(side.callouts)),
      make("section", { class: "card pad" }, make("h2", {}, "What differs"), changesTable(side.changes.groups)),
    ),
    make("div", { class: "means" }, Object.keys(SCORES).slice(0, 4).filter((key) => claim.mean[key]).map((key) => meanCard(SCORES[key], claim.mean[key]))),
    findingsSection(side, claim),
    notesList([...state.comparison.notes, ...side.notes]) ?? "",
  );
}

const valueText = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function changesTable(groups) {
  const rows = Object.entries(groups).flatMap(([group, changes]) => changes.map((change) => make("tr", {},
    make("td", {}, change.name), make("td", { class: "text" }, valueText(change.reference)), make("td", { class: "text" }, valueText(change.other)), make("td", { class: "text muted" }, group))));
  if (!rows.length) return make("p", { class: "muted" }, "Nothing that affects the results.");
  return make("div", { class: "scroll" }, make("table", { class: "changes" }, tableHead(["", "A", "B", "Group"], { class: "text" }), make("tbody", {}, rows)));
}

function meanCard(name, mean) {
  return make("div", { class: "card" },
    make("span", { class: "muted" }, `${name}, mean, B − A`), make("b", {}, formatSigned(mean.difference)), make("span", { class: "muted" }, mean.low === null ? "" : `${intervalText(mean)} `), verdictPill(mean));
}

function findingsSection(side, claim) {
  const body = make("div", {});
  const draw = () => body.replaceChildren(findingsTable(side.targets, claim));
  const options = Object.entries(SCORES).map(([key, name]) => make("option", { value: key, selected: key === state.score }, name));
  const select = make("select", { id: "compared-score", onchange: () => { state.score = select.value; draw(); } }, options);
  draw();
  return make("section", { class: "card pad" }, make("div", { class: "bar" }, make("h2", {}, "By finding"), make("label", {}, "Score ", select)), body);
}

function findingsTable(targets, claim) {
  const differences = targets.map((target) => [target, claim.targets[target]?.[state.score]]).filter(([, difference]) => difference);
  const widest = Math.max(0.05, ...differences.flatMap(([, { low, high }]) => [Math.abs(low ?? 0), Math.abs(high ?? 0)]));
  const rows = differences.map(([target, difference]) => make("tr", {},
    make("td", {}, displayName(target)), make("td", {}, formatScore(difference.reference)), make("td", {}, formatScore(difference.other)), make("td", {}, formatSigned(difference.difference)),
    make("td", {}, difference.low === null ? "n/a" : intervalText(difference)), make("td", {}, intervalLine(difference, widest)), make("td", {}, formatScore(difference.p_adjusted)), make("td", {}, verdictPill(difference))));
  const head = tableHead(["Finding", "A", "B", "B − A", "95 % interval", hiddenText("Interval, drawn"), "p, corrected", "Verdict"]);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${SCORES[state.score]} by finding` }, make("table", {}, head, make("tbody", {}, rows)));
}

/** The interval as a line with zero in the middle; the widest interval of the table fills the cell. */
function intervalLine({ low, high, difference, verdict }, widest) {
  const x = (value) => 80 + (74 * value) / widest;
  const svg = make("svg", { viewBox: "0 0 160 18", width: "160", height: "18", "aria-hidden": "true" }, make("line", { x1: 80, x2: 80, y1: 1, y2: 17, stroke: "#6b7886" }));
  if (low === null || difference === null) return svg;
  const colour = { better: "#9fe0c3", worse: "#ffb3a8" }[verdict] ?? "#c3ccd6";
  svg.append(make("line", { x1: x(low), x2: x(high), y1: 9, y2: 9, stroke: colour, "stroke-width": 2 }), make("circle", { cx: x(difference), cy: 9, r: 4, fill: colour }));
  return svg;
}
