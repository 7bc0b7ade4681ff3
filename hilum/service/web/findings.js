// The list of findings: each probability as a bar against its own threshold.

import { count, digitsFor, exactly, icon, make, percent, plain } from "./words.js";

const logOdds = (probability) => Math.log(probability) - Math.log1p(-probability);
const HIGHEST = 0.999;

/**
 * Where probabilities lie on the bars, 0 to 1. The scale is that of log odds, as the findings' order is: the part of
 * a bar beyond its threshold is as long as the finding is high in the list. A model trained on rare findings has
 * thresholds far below 1 %, which a straight scale would hide.
 */
export function scaleFor(thresholds) {
  const least = Math.min(...thresholds.filter((threshold) => threshold > 0), 0.01);
  const lowest = Math.max(1e-9, Math.min(0.001, 10 ** Math.floor(Math.log10(least))));
  const from = logOdds(lowest), to = logOdds(HIGHEST);
  const place = (probability) => {
    if (probability <= lowest) return 0;
    if (probability >= HIGHEST) return 1;
    return (logOdds(probability) - from) / (to - from);
  };
  const marks = lowest < 1e-4 ? [0.001, 0.5, 0.99] : [0.01, 0.1, 0.5, 0.9, 0.99];
  return { place, marks: marks.filter((mark) => mark > lowest) };
}

/** The decimals of all probabilities and thresholds of a list: one precision, so that they can be compared. */
export const digitsOf = (findings) => digitsFor(findings.map((finding) => [finding.probability, finding.threshold]));

/** Whether validation had positives to measure the threshold by. */
export const isMeasured = (finding) => finding.recall !== null && finding.recall !== undefined;

/** The study's findings from its images': the mean of the probabilities, ordered as the service orders them. */
export function meanOverImages(answers) {
  const read = answers.filter((answer) => answer.findings.length);
  if (!read.length) return [];
  const inOdds = (probability) => logOdds(Math.min(1 - 2 ** -26, Math.max(2 ** -26, probability)));
  const found = read[0].findings.map((first) => {
    const of = read.map((answer) => answer.findings.find((finding) => finding.target === first.target));
    const mean = (name) => of.reduce((sum, finding) => sum + finding[name], 0) / of.length;
    const probability = mean("probability");
    return {
      ...first,
      probability,
      calibrated: first.calibrated === null ? null : mean("calibrated"),
      suggested: Math.fround(probability) >= Math.fround(first.threshold),
      priority: inOdds(probability) - inOdds(first.threshold),
    };
  });
  const last = (finding) => finding.target === "No_Finding";
  return found.sort((a, b) => last(a) - last(b) || b.suggested - a.suggested || b.priority - a.priority);
}

/** What a screen reader says of a list. */
export function inWords(findings) {
  const suggested = findings.filter((finding) => finding.suggested);
  if (!suggested.length) return "No finding reaches its threshold.";
  return `${count(suggested.length, "finding")} suggested: ${suggested.map((finding) => `${plain(finding.target)} ${exactly(finding.probability, digitsOf(findings))}`).join(", ")}.`;
}

function why(finding, value, limit) {
  const words = finding.suggested ? `Suggested: ${value} reaches the threshold of ${limit}.` : `Not suggested: ${value} is below the threshold of ${limit}.`;
  if (!isMeasured(finding)) return words;
  const interval = finding.recall_low === null || finding.recall_low === undefined ? "" : ` (95 % interval ${percent(finding.recall_low)} to ${percent(finding.recall_high)})`;
  return `${words} On validation images this threshold found ${percent(finding.recall)} of those with it${interval}.`;
}

function row(finding, scale, { chosen, choose, tabbed, digits }) {
  const [value, limit] = [finding.probability, finding.threshold].map((number) => exactly(number, digits));
  const words = `${value}, threshold ${limit}, ${finding.suggested ? "suggested" : "not suggested"}`;
  const button = make(
    "button",
    {
      type: "button",
      "aria-pressed": choose ? String(chosen) : null,
      tabindex: tabbed ? "0" : "-1",
      dataset: { target: finding.target },
      title: choose ? (chosen ? "Hide its heatmap" : "Show its heatmap") : null,
      onclick: () => choose?.(finding.target),
    },
    finding.suggested ? icon("mark") : null,
    make("span", {}, plain(finding.target)),
    finding.suggested ? make("span", { class: "unseen" }, ", suggested") : null,
  );
  const tick = make("span", { class: "tick", style: { left: `${100 * Math.min(0.995, Math.max(0.005, scale.place(finding.threshold)))}%` } });
  const fill = make("span", { class: "fill", style: { width: `${100 * scale.place(finding.probability)}%` } });
  return make(
    "li",
    { class: `finding${finding.suggested ? " suggested" : ""}${chosen ? " chosen" : ""}` },
    make("div", { class: "finding-head" }, button, make("span", { class: "value" }, value), make("span", { class: "versus" }, `${finding.suggested ? "≥" : "<"} ${limit}`)),
    make(
      "div",
      {
        class: "meter", role: "meter", "aria-label": plain(finding.target), "aria-valuemin": "0", "aria-valuemax": "1",
        "aria-valuenow": String(Number(finding.probability.toPrecision(4))), "aria-valuetext": words,
      },
      fill,
      tick,
    ),
    isMeasured(finding) ? null : make("p", { class: "unmeasured" }, "Threshold never measured: no validation image has this finding."),
    chosen ? make("p", { class: "why" }, why(finding, value, limit)) : null,
  );
}

/**
 * The list as an element. `choose(target)` is called when a finding is chosen; without it nothing can be.
 * One finding can be reached by Tab, the others from it by the arrow keys.
 */
export function findingsList(findings, { chosen = null, choose = null } = {}) {
  const scale = scaleFor(findings.map((finding) => finding.threshold));
  const digits = digitsOf(findings);
  const suggested = findings.filter((finding) => finding.suggested);
  const others = findings.filter((finding) => !finding.suggested);
  const tabbed = (findings.find((finding) => finding.target === chosen) ?? findings[0])?.target;
  const rows = (some) => make("ul", {}, some.map((finding) => row(finding, scale, { chosen: finding.target === chosen, choose, tabbed: finding.target === tabbed, digits })));
  const axis = make("div", { class: "axis", "aria-hidden": "true" }, scale.marks.map((mark) => make("span", { style: { left: `${100 * scale.place(mark)}%` } }, `${Number((100 * mark).toPrecision(2))}\u00a0%`)));
  const list = make(
    "div",
    { class: "list" },
    make("h3", { class: "list-head suggested" }, make("span", {}, `Suggested · ${suggested.length}`), make("span", { class: "soft" }, "probability, threshold · log-odds scale")),
    axis,
    suggested.length ? rows(suggested) : make("p", { class: "none" }, "No finding reaches its threshold. That does not mean that there is none."),
    others.length ? make("h3", { class: "list-head" }, make("span", {}, `Below their thresholds · ${others.length}`)) : null,
    others.length ? rows(others) : null,
  );
  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button[data-target]")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = buttons[Math.min(buttons.length - 1, Math.max(0, to))];
    for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
    next.focus();
  });
  return list;
}
