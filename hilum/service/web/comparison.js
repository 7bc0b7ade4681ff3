// Two runs compared: what differs, what can be said, each score's difference with its interval.

import { ask } from "./api.js";
import { busy, go, problemBox, say } from "./telling.js";
import { count, download, make, plain, score, signed } from "./words.js";

const at = (id) => document.getElementById(id);
const SCORES = {
  recall: "Recall", roc_auc: "ROC AUC", recall_at_matched_precision: "Recall at matched precision", avg_precision: "Average precision",
  precision: "Precision", specificity: "Specificity", predicted_positive_rate: "Predicted positive",
};
const state = { ready: false, shown: "", score: "recall", found: null };

export function showComparison(listed, asked) {
  const rated = listed.runs.filter((run) => run.best_epoch).map((run) => run.name);
  if (!state.ready) {
    state.ready = true;
    for (const [id, other] of [["run-a", "run-b"], ["run-b", "run-a"]]) {
      at(id).replaceChildren(...rated.map((name) => make("option", { value: name }, name)));
      at(id).addEventListener("change", () => {
        if (at(id).value === at(other).value) at(other).value = rated.find((name) => name !== at(id).value);
        go("comparison", { a: at("run-a").value, b: at("run-b").value });
      });
    }
    at("swap").addEventListener("click", () => go("comparison", { a: at("run-b").value, b: at("run-a").value }));
    at("save-json").addEventListener("click", () => download(JSON.stringify(state.found, null, 2), "hilum-comparison.json", "application/json"));
    at("save-page").addEventListener("click", savePage);
  }
  if (rated.length < 2) {
    at("compared").replaceChildren(make("p", { class: "empty-note card" }, `A comparison needs two runs whose first epoch has ended; there ${rated.length === 1 ? "is one" : "are none"}.`));
    return;
  }
  const a = rated.includes(asked.get("a")) ? asked.get("a") : rated.at(-2);
  const b = rated.includes(asked.get("b")) && asked.get("b") !== a ? asked.get("b") : rated.filter((name) => name !== a).at(-1);
  at("run-a").value = a;
  at("run-b").value = b;
  compare(a, b);
}

const query = () => `a=${encodeURIComponent(at("run-a").value)}&b=${encodeURIComponent(at("run-b").value)}`;

async function savePage() {
  at("save-page").disabled = true;
  try {
    download(await ask(`/v1/comparison.html?${query()}`, { as: "blob" }), "hilum-comparison.html", "text/html");
  } catch (error) {
    at("compared").prepend(problemBox(error));
  }
  at("save-page").disabled = false;
}

async function compare(a, b) {
  const key = `${a}\n${b}`;
  if (state.shown === key) return;
  state.shown = key;
  for (const id of ["save-json", "save-page"]) at(id).disabled = true;
  at("compared").replaceChildren(busy(`Comparing ${a} with ${b}: 1,000 samples of the patients …`));
  try {
    const found = await ask(`/v1/comparison?${query()}`);
    if (state.shown !== key) return;
    state.found = found;
    draw();
    for (const id of ["save-json", "save-page"]) at(id).disabled = false;
    say(found.comparisons[0].differences.statement);
  } catch (error) {
    if (state.shown !== key) return;
    state.shown = "";
    at("compared").replaceChildren(problemBox(error));
  }
}

const verdict = (of) => make("span", { class: `pill ${of.verdict}` }, { better: "▲ better", worse: "▼ worse", higher: "▲ higher", lower: "▼ lower" }[of.verdict] ?? of.verdict);

function draw() {
  const [side] = state.found.comparisons;
  const claim = side.about_settings.available ? side.about_settings : side.about_models;
  const images = side.images;
  const changes = Object.entries(side.differences.groups).flatMap(([group, some]) => some.map((change) => make("tr", {}, make("td", {}, change.name), make("td", { class: "words" }, worded(change.reference)), make("td", { class: "words" }, worded(change.other)), make("td", { class: "words soft" }, group))));
  at("compared").replaceChildren(
    make("div", { class: "verdict-head" },
      make("section", { class: "card pad" }, make("h2", {}, side.differences.statement), make("p", {}, claim.statement), make("p", { class: "soft" }, `${count(images.images, "validation image")} of ${count(images.patients, "patient")}, ${images.design}. Intervals are 95 %, over patients; p-values are corrected for the number of findings.`), side.callouts.length ? make("ul", { class: "notes" }, side.callouts.map((words) => make("li", {}, words))) : null),
      make("section", { class: "card pad" }, make("h2", {}, "What differs"), changes.length ? make("div", { class: "scroll" }, make("table", { class: "changes" }, make("thead", {}, make("tr", {}, ["", "A", "B", "Where"].map((heading) => make("th", { scope: "col", class: "words" }, heading)))), make("tbody", {}, changes))) : make("p", { class: "soft" }, "Nothing that could matter.")),
    ),
    make("div", { class: "means" }, Object.keys(SCORES).slice(0, 4).filter((key) => claim.mean[key]).map((key) => { const of = claim.mean[key]; return make("div", { class: "card" }, make("span", { class: "soft" }, `${SCORES[key]}, mean, B − A`), make("b", {}, signed(of.difference)), make("span", { class: "soft" }, of.low === null ? "" : `${signed(of.low)} to ${signed(of.high)} `), verdict(of)); })),
    byFinding(side, claim),
    side.notes.length || state.found.notes.length ? make("ul", { class: "notes" }, [...state.found.notes, ...side.notes].map((words) => make("li", {}, words))) : "",
  );
}

const worded = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function byFinding(side, claim) {
  const section = make("section", { class: "card pad" });
  const select = make("select", { id: "compared-score", onchange: () => { state.score = select.value; drawIt(); } }, Object.entries(SCORES).map(([key, words]) => make("option", { value: key, selected: key === state.score }, words)));
  const body = make("div", {});
  const drawIt = () => {
    const rows = side.targets.map((target) => [target, claim.targets[target]?.[state.score]]).filter(([, of]) => of);
    const widest = Math.max(0.05, ...rows.flatMap(([, of]) => [Math.abs(of.low ?? 0), Math.abs(of.high ?? 0)]));
    body.replaceChildren(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${SCORES[state.score]} by finding` }, make("table", {},
      make("thead", {}, make("tr", {}, ["Finding", "A", "B", "B − A", "95 % interval", "", "p, corrected", "Verdict"].map((heading) => make("th", { scope: "col" }, heading || make("span", { class: "unseen" }, "Drawn"))))),
      make("tbody", {}, rows.map(([target, of]) => make("tr", {}, make("td", {}, plain(target)), make("td", {}, score(of.reference)), make("td", {}, score(of.other)), make("td", {}, signed(of.difference)), make("td", {}, of.low === null ? "n/a" : `${signed(of.low)} to ${signed(of.high)}`), make("td", {}, interval(of, widest)), make("td", {}, score(of.p_adjusted)), make("td", {}, verdict(of))))),
    )));
  };
  drawIt();
  section.append(make("div", { class: "bar" }, make("h2", {}, "By finding"), make("label", {}, "Score ", select)), body);
  return section;
}

/** The interval as a line, zero in the middle, the table's widest interval as wide as the cell. */
function interval(of, widest) {
  const x = (value) => 80 + (74 * value) / widest;
  const svg = make("svg", { viewBox: "0 0 160 18", width: "160", height: "18", "aria-hidden": "true" }, make("line", { x1: 80, x2: 80, y1: 1, y2: 17, stroke: "#6b7886" }));
  if (of.low === null || of.difference === null) return svg;
  const colour = { better: "#9fe0c3", worse: "#ffb3a8" }[of.verdict] ?? "#c3ccd6";
  svg.append(make("line", { x1: x(of.low), x2: x(of.high), y1: 9, y2: 9, stroke: colour, "stroke-width": 2 }), make("circle", { cx: x(of.difference), cy: 9, r: 4, fill: colour }));
  return svg;
}
