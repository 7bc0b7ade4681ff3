// The panel next to the images: the findings of an image or of the study, and the settings of the heatmap.

import { byId, icon, make } from "./dom.js";
import { findingsList } from "./findings.js";
import { count, displayName } from "./format.js";
import { describeOcclusion } from "./heatmap.js";
import { modelFacts, modelScores } from "./model_facts.js";
import { elements, heatmapKey, methodName, scoredImages, shownImages, state, studyFindings } from "./predict_state.js";

const PROGRESS = { waiting: "Waiting …", queued: "The service is busy; trying again …", reading: "Reading …" };

/** Draws the panel. `actions`: `choose(target)`, `save()`, `remove(image)`, `retry(image)`, `showStudy(bool)`. */
export function drawPanel(actions) {
  const focused = document.activeElement?.dataset?.target;
  const content = state.active ? (state.study ? studyPanel(actions) : imagePanel(state.active, actions)) : emptyPanel();
  const top = elements.panel.scrollTop;
  elements.panel.replaceChildren(...content.filter(Boolean));
  elements.panel.scrollTop = top;
  if (focused) elements.panel.querySelector(`button[data-target="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  drawHeatmapForm();
}

function emptyPanel() {
  if (state.modelError) {
    return [
      make("div", { class: "callout error" }, icon("warn"), make("p", {}, make("b", {}, "No model is available"), state.modelError.message)),
      state.modelError.code === "no-model" ? make("p", { class: "none" }, "See the table of ", make("a", { href: "/runs" }, "runs"), ".") : null,
    ];
  }
  if (!state.model) return [make("p", { class: "none" }, make("span", { class: "spinner" }), " Loading the model …")];
  const { metadata } = state.model;
  return [make("div", { class: "panel-head" }, make("h2", {}, "The model")), modelFacts(metadata), make("h3", { class: "list-head" }, "Scores on its validation images"), modelScores(metadata, 3)];
}

/** The choice between one image and the study. */
function studySwitch(actions) {
  if (state.images.length < 2) return null;
  const choice = (study, text) => make("button", { type: "button", "aria-pressed": String(state.study === study), onclick: () => actions.showStudy(study) }, text);
  return make("div", { class: "switch", role: "group", "aria-label": "Findings of" }, choice(false, "This image"), choice(true, `Study: mean of ${scoredImages().length}`));
}

function buttons(image, actions) {
  const isEmpty = !state.images.some(({ answer }) => answer);
  return make(
    "div",
    { class: "actions" },
    make("button", { type: "button", id: "save", disabled: isEmpty, onclick: actions.save }, icon("down"), "JSON"),
    make("button", { type: "button", id: "print-results", disabled: isEmpty, onclick: () => window.print() }, icon("print"), "Print"),
    image ? make("button", { type: "button", id: "remove", onclick: () => actions.remove(image) }, icon("close"), "Remove") : null,
  );
}

function imageNotes(image, actions) {
  const notes = [];
  if (image.error) {
    notes.push(make("div", { class: "callout error" }, icon("warn"), make("p", {}, make("b", {}, "This file could not be read"), image.error.message)));
    notes.push(make("div", { class: "actions" }, make("button", { type: "button", id: "retry", onclick: () => actions.retry(image) }, icon("reset"), "Try again")));
  }
  for (const flag of image.answer?.flags ?? []) {
    notes.push(make("div", { class: `callout ${flag.refused ? "refusal" : "flag"}` }, icon(flag.refused ? "stop" : "warn"), make("p", {}, flag.refused ? make("b", {}, "Not scored") : null, flag.message)));
  }
  return notes.length ? make("div", { class: "callouts" }, notes) : null;
}

function imagePanel(image, actions) {
  const { answer } = image;
  const size = answer ? `${answer.columns} × ${answer.rows} pixels · ${answer.view ? `${answer.view} view` : "view not stated"}` : "";
  const progress = PROGRESS[image.status];
  return [
    studySwitch(actions),
    make("div", { class: "panel-head" }, make("h2", {}, image.name), size ? make("p", {}, size) : null),
    imageNotes(image, actions),
    progress ? make("p", { class: "none" }, make("span", { class: "spinner" }), ` ${progress}`) : null,
    answer?.findings.length ? findingsList(answer.findings, { chosen: state.target, choose: actions.choose }) : null,
    buttons(image, actions),
  ];
}

function studyPanel(actions) {
  const findings = studyFindings();
  const scored = scoredImages().length;
  const others = state.images.length - scored;
  const text = `The mean probability over ${count(scored, "image")}${others ? `; ${others} not scored or not read` : ""}. It is meaningful only if all images are of one study of one patient.`;
  return [
    studySwitch(actions),
    make("div", { class: "panel-head" }, make("h2", {}, "The study"), make("p", {}, text)),
    findings.length ? findingsList(findings, { chosen: state.target, choose: actions.choose }) : make("p", { class: "none" }, "No image has been scored."),
    buttons(null, actions),
  ];
}

/** The opacity and the method of the heatmap, and what is known about it. */
export function drawHeatmapForm() {
  elements.heatmap.hidden = !state.target || !shownImages().some((image) => image.status === "done");
  if (elements.heatmap.hidden) return;
  byId("heatmap-name").textContent = `Heatmap: ${displayName(state.target)}`;
  byId("opacity").value = Math.round(100 * state.opacity);
  byId("opacity").nextElementSibling.value = `${Math.round(100 * state.opacity)} %`;
  const error = shownImages().map((image) => image.heatmaps.get(heatmapKey())).find((heatmap) => heatmap instanceof Error);
  byId("heatmap-note").textContent = error ? error.message : `Evidence for the finding (${methodName(state.method)}): where the model looked, not where a lesion is.`;
  byId("heatmap-note").className = error ? "bad" : "muted";
  const heatmap = state.active?.heatmaps.get(heatmapKey());
  byId("heatmap-check").textContent = heatmap instanceof HTMLCanvasElement ? describeOcclusion(heatmap) : "";
}
