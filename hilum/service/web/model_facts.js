// The model's metadata as a list of facts and a table of scores.

import { make } from "./dom.js";
import { displayName, formatScore, percent } from "./format.js";

export function modelFacts(metadata) {
  const { provenance = {}, preprocessing = {} } = metadata;
  const parts = provenance.split?.parts ?? {};
  const size = (part) => `${part.images.toLocaleString("en")} images of ${part.patients.toLocaleString("en")} patients`;
  const facts = [
    ["Model", metadata.name],
    ["Network", provenance.net_name],
    ["Trained on", parts.train ? `${size(parts.train)} (${provenance.data?.name ?? "?"})` : null],
    ["Validated on", parts.val ? size(parts.val) : null],
    ["Input", preprocessing.width ? `${preprocessing.width} × ${preprocessing.height} pixels, ${views(preprocessing.views)}` : null],
    ["Epoch", metadata.epoch],
    ["Digest", metadata.digest?.slice(0, 16)],
  ];
  return make("dl", { class: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}

function views(counts) {
  if (!counts) return "views not recorded";
  const total = Object.values(counts).reduce((sum, number) => sum + number, 0);
  return Object.entries(counts).filter(([, number]) => number).map(([view, number]) => `${percent(number / total)} ${view}`).join(", ");
}

/** A table of validation scores: the first `columnCount` columns, the most important ones first. */
export function modelScores(metadata, columnCount = Infinity) {
  const columns = [
    ["ROC AUC", (row) => formatScore(row.roc_auc)], ["Recall", (row) => formatScore(row.recall)], ["Threshold", (row) => percent(metadata.thresholds?.[row.target]?.threshold)],
    ["Precision", (row) => formatScore(row.precision)], ["Specificity", (row) => formatScore(row.specificity)], ["Positives", (row) => String(row.positives ?? "n/a")],
  ].slice(0, columnCount);
  const rows = (metadata.scores ?? []).map((row) => make("tr", {}, make("td", {}, displayName(row.target)), columns.map(([, value]) => make("td", {}, value(row)))));
  if (!rows.length) return null;
  return make(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Validation scores" },
    make("table", {}, make("thead", {}, make("tr", {}, ["Finding", ...columns.map(([heading]) => heading)].map((heading) => make("th", { scope: "col" }, heading)))), make("tbody", {}, rows)),
  );
}
