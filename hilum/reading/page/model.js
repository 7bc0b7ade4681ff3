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

export function modelScores(card) {
  const rows = (card.scores ?? []).map((of) =>
    make("tr", {}, make("td", {}, plain(of.target)), make("td", {}, score(of.roc_auc)), make("td", {}, score(of.recall)), make("td", {}, score(of.precision)), make("td", {}, percent(card.thresholds?.[of.target]?.threshold))),
  );
  if (!rows.length) return null;
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Validation scores" },
    make("table", {}, make("thead", {}, make("tr", {}, ["Finding", "ROC AUC", "Recall", "Precision", "Threshold"].map((heading) => make("th", { scope: "col" }, heading)))), make("tbody", {}, rows)),
  );
}
