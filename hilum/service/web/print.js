// The results as JSON and on paper.

import { make } from "./dom.js";
import { digitsOfFindings } from "./findings.js";
import { count, displayName, percentFixed } from "./format.js";

const NOTICE = "Research use only. Not a medical device; nothing here is a diagnosis.";

/** All results as one JSON value, without pixels. 2: `finding`, `status` and `message` are named as in the API. */
export function asRecord(model, images, studyFindings) {
  const answered = images.filter((image) => image.answer);
  const scored = answered.filter((image) => image.answer.findings.length);
  return {
    format: 2,
    research_use: model?.research_use ?? NOTICE,
    created: new Date().toISOString(),
    model: model ? { name: model.metadata.name, digest: model.metadata.digest, epoch: model.metadata.epoch } : null,
    images: answered.map(({ answer }) => ({ ...answer, pixels: undefined, heatmaps: undefined })),
    failed: images.filter((image) => image.error).map((image) => ({ image: image.name, code: image.error.code, message: image.error.message })),
    study: answered.length > 1 ? { images: scored.length, aggregate: "mean", findings: studyFindings } : null,
  };
}

function remark(finding) {
  const remarks = [finding.suggested && "suggested", !finding.threshold_measured && "threshold not measured"];
  return remarks.filter(Boolean).join(", ") || "–";
}

function findingsTable(findings) {
  const digits = digitsOfFindings(findings);
  const rows = findings.map((finding) =>
    make("tr", { class: finding.suggested ? "suggested" : "" },
      make("td", {}, displayName(finding.finding)), make("td", {}, percentFixed(finding.probability, digits)), make("td", {}, percentFixed(finding.threshold, digits)), make("td", {}, remark(finding))),
  );
  return make("table", {}, make("thead", {}, make("tr", {}, ["Finding", "Probability", "Threshold", ""].map((heading) => make("th", {}, heading)))), make("tbody", {}, rows));
}

function imageArticle(image, source) {
  const flags = image.answer?.flags ?? [];
  const notes = image.error ? [`Not read: ${image.error.message}`] : flags.map((flag) => `${flag.refused ? "Not scored" : "Note"}: ${flag.message}`);
  return make("article", {},
    source ? make("img", { src: source, alt: "" }) : make("div", {}, "no picture"),
    make("div", {}, make("h2", {}, image.name), ...notes.map((note) => make("p", {}, note)), image.answer?.findings.length ? findingsTable(image.answer.findings) : null),
  );
}

/** Fills the part of the page that is printed. `picture(image)` returns the address of an image's picture, or null. */
export function fillPrintout(host, model, images, studyFindings, picture) {
  const scored = images.filter((image) => image.answer?.findings.length).length;
  const study = scored > 1 ? [make("article", { class: "whole" }, make("div", {}, make("h2", {}, `The study: mean of ${count(scored, "image")}`), findingsTable(studyFindings)))] : [];
  host.replaceChildren(
    make("h1", {}, "Hilum results"),
    make("p", { class: "notice-box" }, NOTICE),
    make("p", {}, `${new Date().toLocaleString("en-GB")} · model ${model?.metadata.name ?? "?"}, digest ${model?.metadata.digest?.slice(0, 16) ?? "?"}`),
    ...study,
    ...images.map((image) => imageArticle(image, picture(image))),
  );
}
