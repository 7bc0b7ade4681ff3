// The list of findings: each probability as a bar with its own threshold.

import { hiddenText, icon, make } from "./dom.js";
import { count, digitsFor, displayName, percent, percentFixed } from "./format.js";

const HIGHEST = 0.999;
const SMALLEST_DISTANCE = 2 ** -26; // of a probability from 0 and 1, as the service takes it

const logOdds = (probability) => Math.log(probability) - Math.log1p(-probability);
const clippedLogOdds = (probability) => logOdds(Math.min(1 - SMALLEST_DISTANCE, Math.max(SMALLEST_DISTANCE, probability)));

/**
 * The position of probabilities on the bars, 0 to 1. The scale is log odds, as for the findings' order: the part of a bar
 * beyond its threshold shows the finding's priority. A model trained on rare findings has thresholds far below 1 %, which
 * a linear scale would hide.
 */
export function scaleFor(thresholds) {
  const lowestThreshold = Math.min(...thresholds.filter((threshold) => threshold > 0), 0.01);
  const lowest = Math.max(1e-9, Math.min(0.001, 10 ** Math.floor(Math.log10(lowestThreshold))));
  const from = logOdds(lowest), to = logOdds(HIGHEST);
  const position = (probability) => {
    if (probability <= lowest) return 0;
    if (probability >= HIGHEST) return 1;
    return (logOdds(probability) - from) / (to - from);
  };
  const marks = lowest < 1e-4 ? [0.001, 0.5, 0.99] : [0.01, 0.1, 0.5, 0.9, 0.99];
  return { position, marks: marks.filter((mark) => mark > lowest) };
}

/** The decimals of all probabilities and thresholds of a list: one precision, so that they can be compared. */
export const digitsOfFindings = (findings) => digitsFor(findings.map((finding) => [finding.probability, finding.threshold]));

/** The findings of a study: the mean of its images' probabilities, ordered as the service orders them. */
export function meanOverImages(answers) {
  const scored = answers.filter((answer) => answer.findings.length);
  if (!scored.length) return [];
  const findings = scored[0].findings.map((first) => {
    const same = scored.map((answer) => answer.findings.find(({ finding }) => finding === first.finding));
    const mean = (name) => same.reduce((sum, finding) => sum + finding[name], 0) / same.length;
    const probability = mean("probability");
    return {
      ...first,
      probability,
      calibrated: first.calibrated === null ? null : mean("calibrated"),
      suggested: Math.fround(probability) >= Math.fround(first.threshold),
      priority: clippedLogOdds(probability) - clippedLogOdds(first.threshold),
    };
  });
  const isLast = ({ finding }) => finding === "No_Finding";
  return findings.sort((a, b) => isLast(a) - isLast(b) || b.suggested - a.suggested || b.priority - a.priority);
}

/** A summary of a list for screen readers. */
export function describeFindings(findings) {
  const suggested = findings.filter((finding) => finding.suggested);
  if (!suggested.length) return "No finding reaches its threshold.";
  const digits = digitsOfFindings(findings);
  return `${count(suggested.length, "finding")} suggested: ${suggested.map((finding) => `${displayName(finding.finding)} ${percentFixed(finding.probability, digits)}`).join(", ")}.`;
}

function explanation(finding, value, threshold) {
  const text = finding.suggested ? `Suggested: ${value} reaches the threshold of ${threshold}.` : `Not suggested: ${value} is below the threshold of ${threshold}.`;
  if (!finding.threshold_measured) return text;
  const interval = finding.recall_low === null || finding.recall_low === undefined ? "" : ` (95 % interval ${percent(finding.recall_low)} to ${percent(finding.recall_high)})`;
  return `${text} On the validation images this threshold has a recall of ${percent(finding.recall)}${interval}.`;
}

function findingButton(finding, { chosen, choose, inTabOrder }) {
  return make(
    "button",
    {
      type: "button",
      "aria-pressed": choose ? String(chosen) : null,
      tabindex: inTabOrder ? "0" : "-1",
      dataset: { target: finding.finding },
      title: choose ? (chosen ? "Hide its heatmap" : "Show its heatmap") : null,
      onclick: () => choose?.(finding.finding),
    },
    finding.suggested ? icon("mark") : null,
    make("span", {}, displayName(finding.finding)),
    finding.suggested ? hiddenText(", suggested") : null,
  );
}

function findingRow(finding, scale, digits, options) {
  const [value, threshold] = [finding.probability, finding.threshold].map((number) => percentFixed(number, digits));
  const tick = make("span", { class: "tick", style: { left: `${100 * Math.min(0.995, Math.max(0.005, scale.position(finding.threshold)))}%` } });
  const fill = make("span", { class: "fill", style: { width: `${100 * scale.position(finding.probability)}%` } });
  return make(
    "li",
    { class: `finding${finding.suggested ? " suggested" : ""}${options.chosen ? " chosen" : ""}` },
    make("div", { class: "finding-head" }, findingButton(finding, options), make("span", { class: "value" }, value), make("span", { class: "threshold" }, `${finding.suggested ? "≥" : "<"} ${threshold}`)),
    make(
      "div",
      {
        class: "meter", role: "meter", "aria-label": displayName(finding.finding), "aria-valuemin": "0", "aria-valuemax": "1",
        "aria-valuenow": String(Number(finding.probability.toPrecision(4))),
        "aria-valuetext": `${value}, threshold ${threshold}, ${finding.suggested ? "suggested" : "not suggested"}`,
      },
      fill,
      tick,
    ),
    finding.threshold_measured ? null : make("p", { class: "unmeasured" }, "Threshold not measured: no validation image has this finding."),
    options.chosen ? make("p", { class: "explanation" }, explanation(finding, value, threshold)) : null,
  );
}

/** Arrow keys, Home and End move the focus through the list. */
function moveFocus(event) {
  const buttons = [...event.currentTarget.querySelectorAll("button[data-target]")];
  const current = buttons.indexOf(document.activeElement);
  const to = { ArrowDown: current + 1, ArrowUp: current - 1, Home: 0, End: buttons.length - 1 }[event.key];
  if (current < 0 || to === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  const next = buttons[Math.min(buttons.length - 1, Math.max(0, to))];
  for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
  next.focus();
}

/**
 * The list as an element. `choose(target)` is called when a finding is chosen; without it, none can be chosen. Tab reaches
 * one finding; the arrow keys go from there to the others.
 */
export function findingsList(findings, { chosen = null, choose = null } = {}) {
  const scale = scaleFor(findings.map((finding) => finding.threshold));
  const digits = digitsOfFindings(findings);
  const suggested = findings.filter((finding) => finding.suggested);
  const others = findings.filter((finding) => !finding.suggested);
  const reachable = (findings.find(({ finding }) => finding === chosen) ?? findings[0])?.finding;
  const rows = (part) => make("ul", {}, part.map((each) => findingRow(each, scale, digits, { chosen: each.finding === chosen, choose, inTabOrder: each.finding === reachable })));
  const axis = make("div", { class: "axis", "aria-hidden": "true" }, scale.marks.map((mark) => make("span", { style: { left: `${100 * scale.position(mark)}%` } }, `${Number((100 * mark).toPrecision(2))}\u00a0%`)));
  const list = make(
    "div",
    { class: "list" },
    make("h3", { class: "list-head suggested" }, make("span", {}, `Suggested · ${suggested.length}`), make("span", { class: "muted" }, "probability, threshold · log-odds scale")),
    axis,
    suggested.length ? rows(suggested) : make("p", { class: "none" }, "No finding reaches its threshold. The image may still have findings."),
    others.length ? make("h3", { class: "list-head" }, make("span", {}, `Below their thresholds · ${others.length}`)) : null,
    others.length ? rows(others) : null,
  );
  list.addEventListener("keydown", moveFocus);
  return list;
}
