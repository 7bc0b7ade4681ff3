// What the model is, for people: from its card.

import { make, percent, plain, score } from "./words.js";

export function modelFacts(card) {
  const { provenance = {}, preprocessing = {} } = card;
  const parts = provenance.split?.parts ?? {};
  const facts = [
    ["Model", card.name],
    ["Network", provenance.net_name],
    ["Trained on", parts.train ? `${parts.train.images.toLocaleString("en")} images of ${parts.train.patients.toLocaleString("en")} patients (${provenance.data?.name ?? "?"})` : null],
    ["Validated on", parts.val ? `${parts.val.images.toLocaleString("en")} images of ${parts.val.patients.toLocaleString("en")} patients` : null],
    ["Sees", preprocessing.width ? `${preprocessing.width} × ${preprocessing.height} pixels, ${views(preprocessing.views)}` : null],
    ["Epoch", card.epoch],
    ["Digest", card.digest?.slice(0, 16)],
  ];
  return make("dl", { class: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function views(counts) {
  if (!counts) return "views not recorded";
  const total = Object.values(counts).reduce((sum, number) => sum + number, 0);
  return Object.entries(counts).filter(([, number]) => number).map(([view, number]) => `${percent(number / total)} ${view}`).join(", ");
}

/** A table of validation scores: the first `most` columns, those that matter first. */
export function modelScores(card, most = Infinity) {
  const columns = [
    ["ROC AUC", (of) => score(of.roc_auc)], ["Recall", (of) => score(of.recall)], ["Threshold", (of) => percent(card.thresholds?.[of.target]?.threshold)],
    ["Precision", (of) => score(of.precision)], ["Specificity", (of) => score(of.specificity)], ["Positives", (of) => String(of.positives ?? "n/a")],
  ].slice(0, most);
  const rows = (card.scores ?? []).map((of) => make("tr", {}, make("td", {}, plain(of.target)), columns.map(([, value]) => make("td", {}, value(of)))));
  if (!rows.length) return null;
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Validation scores" },
    make("table", {}, make("thead", {}, make("tr", {}, ["Finding", ...columns.map(([heading]) => heading)].map((heading) => make("th", { scope: "col" }, heading)))), make("tbody", {}, rows)),
  );
}
