// The reading on paper and as JSON.

import { digitsOf, isMeasured } from "./findings.js";
import { count, exactly, make, plain } from "./words.js";

const USE = "Research use only. Not a medical device; nothing here is a diagnosis.";

/** Everything that was read, as one JSON value without pixels. */
export function record(model, images, study) {
  const done = images.filter((image) => image.answer);
  return {
    research_use: model?.research_use ?? USE,
    made: new Date().toISOString(),
    model: model ? { name: model.card.name, digest: model.card.digest, epoch: model.card.epoch } : null,
    images: done.map(({ answer }) => ({ ...answer, pixels: undefined, heatmaps: undefined })),
    unread: images.filter((image) => image.error).map((image) => ({ name: image.name, code: image.error.code, message: image.error.message })),
    study: done.length > 1 ? { images: done.filter((image) => image.answer.findings.length).length, aggregate: "mean", findings: study } : null,
  };
}

const said = (finding) => [finding.suggested && "suggested", !isMeasured(finding) && "threshold never measured"].filter(Boolean).join(", ") || "–";

function table(findings) {
  const digits = digitsOf(findings);
  const rows = findings.map((finding) =>
    make("tr", { class: finding.suggested ? "yes" : "" }, make("td", {}, plain(finding.target)), make("td", {}, exactly(finding.probability, digits)), make("td", {}, exactly(finding.threshold, digits)), make("td", {}, said(finding))),
  );
  return make("table", {}, make("thead", {}, make("tr", {}, ["Finding", "Probability", "Threshold", ""].map((heading) => make("th", {}, heading)))), make("tbody", {}, rows));
}

/** Fills the part of the page that is printed. */
export function fillPrint(host, model, images, study, picture) {
  host.replaceChildren(
    make("h1", {}, "Hilum reading"),
    make("p", { class: "use" }, USE),
    make("p", {}, `${new Date().toLocaleString("en-GB")} · model ${model?.card.name ?? "?"}, digest ${model?.card.digest?.slice(0, 16) ?? "?"}`),
    ...(study.length && images.filter((image) => image.answer?.findings.length).length > 1
      ? [make("article", { class: "whole" }, make("div", {}, make("h2", {}, `The study: mean of ${count(images.filter((image) => image.answer?.findings.length).length, "image")}`), table(study)))]
      : []),
    ...images.map((image) => {
      const flags = image.answer?.flags ?? [];
      const told = image.error ? [make("p", {}, `Not read: ${image.error.message}`)] : flags.map((flag) => make("p", {}, `${flag.refused ? "Not scored" : "Note"}: ${flag.words}`));
      const address = picture(image);
      return make(
        "article",
        {},
        address ? make("img", { src: address, alt: "" }) : make("div", {}, "no picture"),
        make("div", {}, make("h2", {}, image.name), ...told, image.answer?.findings.length ? table(image.answer.findings) : null),
      );
    }),
  );
}
