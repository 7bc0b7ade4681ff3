// The validation images with a run's worst errors: each with its radiograph, heatmap and history over the epochs.

import { request, requestWhenFree } from "./api.js";
import { fittedPlot, styleOf } from "./curves.js";
import { byId, hiddenText, icon, make, navigate, tableHead } from "./dom.js";
import { count, displayName, percent, percentsAlike } from "./format.js";
import { colourHeatmap, describeOcclusion } from "./heatmap.js";
import { announce, busy, errorBox } from "./messages.js";
import { Viewer, defaultDisplay } from "./viewer.js";

// `shown` is what the gallery lists, `open` the image in the detail pane.
const state = { ready: false, shown: "", errors: null, open: null, target: null };
let viewer = null;

export function showImages(overview, params) {
  const evaluated = overview.runs.filter((run) => run.best_epoch);
  const names = evaluated.map((run) => run.name);
  if (!state.ready) {
    state.ready = true;
    byId("images-run").replaceChildren(...names.map((name) => make("option", { value: name }, name)));
    const changed = () => navigate("images", { run: byId("images-run").value, target: byId("images-target").value, kind: byId("images-kind").value });
    byId("images-run").addEventListener("change", () => { byId("images-target").value = ""; changed(); });
    for (const id of ["images-target", "images-kind"]) byId(id).addEventListener("change", changed);
  }
  if (!evaluated.length) {
    byId("gallery").replaceChildren(make("p", { class: "empty-note card" }, "No run has a finished epoch."));
    return;
  }
  const name = names.includes(params.get("run")) ? params.get("run") : (overview.best ?? names[0]);
  const { targets } = evaluated.find((run) => run.name === name);
  const target = targets.includes(params.get("target")) ? params.get("target") : "";
  const kind = params.get("kind") === "false-alarm" ? "false-alarm" : "missed";
  byId("images-run").value = name;
  byId("images-target").replaceChildren(make("option", { value: "" }, "all, in turn"), ...targets.map((each) => make("option", { value: each, selected: each === target }, displayName(each))));
  byId("images-kind").value = kind;
  loadGallery(name, target, kind);
}

const addressOf = (run, rest) => `/v1/runs/${encodeURIComponent(run)}/${rest}`;

async function loadGallery(run, target, kind) {
  const key = [run, target, kind].join("\n");
  if (state.shown === key) return;
  state.shown = key;
  closeImage();
  byId("images-count").textContent = "";
  byId("gallery").replaceChildren(busy("Loading the errors of this run …"));
  try {
    const errors = await request(addressOf(run, `mistakes?kind=${kind}${target ? `&target=${encodeURIComponent(target)}` : ""}`));
    if (state.shown !== key) return;
    state.errors = errors;
    drawGallery(run, kind);
  } catch (error) {
    if (state.shown !== key) return;
    state.shown = "";
    byId("gallery").replaceChildren(errorBox(error));
  }
}

const NO_RADIOGRAPH = "radiograph not available";

// A thumbnail is loaded when it becomes visible.
const visibility = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    visibility.unobserve(target);
    requestWhenFree(target.dataset.picture, { as: "blob" })
      .then((blob) => {
        const source = URL.createObjectURL(blob);
        target.replaceChildren(make("img", { src: source, alt: "", onload: () => URL.revokeObjectURL(source) }));
      })
      .catch(() => target.replaceChildren(NO_RADIOGRAPH));
  }
}, { rootMargin: "200px" });

function drawGallery(run, kind) {
  const { mistakes, count: total, images_available: available, epoch } = state.errors;
  const what = kind === "missed" ? "missed" : "falsely suggested";
  byId("images-count").textContent = `${count(total, "finding")} ${what} in epoch ${epoch}${total > mistakes.length ? `; the worst ${mistakes.length} are shown` : ""}`;
  if (!mistakes.length) {
    byId("gallery").replaceChildren(make("p", { class: "empty-note card" }, kind === "missed" ? "No finding is missed at these thresholds. See the false alarms for the cost." : "There are no false alarms at these thresholds."));
    return;
  }
  const missing = make("div", { class: "callout flag" }, icon("warn"), make("p", {}, "The data set is no longer where the run read it, so radiographs and heatmaps are not available."));
  const cards = mistakes.map((mistake) => make("li", {}, galleryCard(run, kind, mistake, available)));
  byId("gallery").replaceChildren(available ? "" : missing, make("ul", { class: "gallery" }, cards));
}

function galleryCard(run, kind, mistake, available) {
  const thumbnail = make("span", { class: "thumbnail", dataset: { picture: addressOf(run, `images/${mistake.image_id}/pixels?side=320`) } }, available ? "" : NO_RADIOGRAPH);
  if (available) visibility.observe(thumbnail);
  const values = percentsAlike([mistake.probability, mistake.threshold]).join(kind === "missed" ? " < " : " ≥ ");
  const card = make("button", { type: "button", onclick: () => openImage(run, mistake, card) },
    thumbnail, make("b", {}, displayName(mistake.finding)), make("span", { class: "muted" }, values), make("span", { class: "muted" }, mistake.file ?? `image ${mistake.image_id}`));
  return card;
}

function closeImage() {
  byId("detail").hidden = true;
  document.querySelector(".browser").classList.remove("open");
  byId("gallery").querySelector("[aria-current]")?.removeAttribute("aria-current");
  state.open = null;
}

async function openImage(run, mistake, card) {
  byId("gallery").querySelector("[aria-current]")?.removeAttribute("aria-current");
  card.setAttribute("aria-current", "true");
  document.querySelector(".browser").classList.add("open");
  byId("detail").hidden = false;
  byId("detail").replaceChildren(busy("Loading the image and its history …"));
  const opened = (state.open = { run, id: mistake.image_id });
  try {
    const details = await request(addressOf(run, `images/${mistake.image_id}`));
    if (state.open !== opened) return;
    opened.details = details;
    state.target = mistake.finding;
    drawImage(opened, card);
    byId("detail").focus({ preventScroll: true });
    if (matchMedia("(max-width: 1000px)").matches) byId("detail").scrollIntoView({ block: "start" });
    announce(`Image ${mistake.image_id}: ${displayName(mistake.finding)}, ${percent(mistake.probability)}, threshold ${percent(mistake.threshold)}.`);
  } catch (error) {
    if (state.open === opened) byId("detail").replaceChildren(errorBox(error));
  }
}

function drawImage(opened, card) {
  const { details } = opened;
  viewer = new Viewer({ changed: () => {} });
  const center = make("div", { class: "center" }, make("span", { class: "spinner" }));
  const heatmapBox = make("input", { type: "checkbox", id: "detail-heatmap", onchange: () => showHeatmap(opened) });
  const opacity = make("input", { type: "range", min: "0", max: "100", value: "45", "aria-label": "Opacity of the heatmap", oninput: () => viewer.showHeatmap(viewer.heatmap, Number(opacity.value) / 100) });
  Object.assign(opened, { heatmapBox, opacity, heatmaps: new Map(), history: make("div", {}), rows: make("tbody", {}), note: make("p", { class: "muted" }) });
  const tool = (label, name, onclick) => make("button", { type: "button", "aria-label": label, onclick }, icon(name));
  const tools = make("div", { class: "image-tools" },
    make("label", { class: "check" }, heatmapBox, "heatmap"), opacity, make("span", { class: "grow" }),
    tool("Zoom out", "minus", () => viewer.zoomBy(0.8)), tool("Zoom in", "plus", () => viewer.zoomBy(1.25)),
    tool("Invert", "invert", () => viewer.change({ inverted: !viewer.display.inverted })), tool("Reset the view", "reset", () => viewer.reset()));
  const facts = Object.entries(details.about).map(([name, value]) => `${name.toLowerCase()} ${value}`).join(" · ");
  const close = make("button", { type: "button", class: "quiet", "aria-label": "Close the image", onclick: () => { closeImage(); card.focus(); } }, icon("close"));
  const table = make("table", {}, tableHead(["Finding", "Label", "Probability", "Threshold", hiddenText("Outcome")]), opened.rows);
  byId("detail").replaceChildren(
    make("div", { class: "detail-head" }, make("div", {}, make("h2", {}, `Image ${details.image_id}`), make("p", {}, facts)), close),
    make("div", { class: "image-view" }, viewer.element, center),
    tools,
    make("div", { class: "detail-body" }, opened.note, opened.history, make("section", {}, make("h3", {}, "All findings"), make("div", { class: "scroll" }, table))),
  );
  chooseTarget(opened, state.target);
  requestWhenFree(addressOf(opened.run, `images/${opened.id}/pixels`), { as: "blob" })
    .then(createImageBitmap)
    .then((bitmap) => {
      center.hidden = true;
      viewer.show(bitmap, defaultDisplay(), `Radiograph of image ${opened.id}`);
    })
    .catch((error) => center.replaceChildren(make("p", {}, error.message)));
}

function chooseTarget(opened, target) {
  const { details } = opened;
  state.target = target;
  const finding = details.findings.find((each) => each.finding === target);
  const line = { name: "probability", epochs: details.epochs, values: finding.history, bestEpoch: details.best_epoch, ...styleOf(0) };
  const small = finding.threshold < 0.02;
  const title = `${displayName(target)} in image ${opened.id}: its probability over the epochs, threshold ${percent(finding.threshold)}`;
  const rows = line.epochs.map((epoch, place) => make("tr", {}, make("td", {}, `${epoch}${epoch === line.bestEpoch ? " (best)" : ""}`), make("td", {}, percent(line.values[place]))));
  opened.history.replaceChildren(
    make("h3", {}, `${displayName(target)} over the epochs`),
    fittedPlot([line], { title, height: 230, range: small ? null : [0, 1], log: small, level: { value: finding.threshold, name: `threshold ${percent(finding.threshold)}` } }),
    make("details", {}, make("summary", {}, "Show as a table"), make("div", { class: "scroll" }, make("table", {}, tableHead(["Epoch", "Probability"]), make("tbody", {}, rows)))),
  );
  opened.rows.replaceChildren(...details.findings.map((each) => findingRow(opened, each)));
  showHeatmap(opened);
}

function findingRow(opened, finding) {
  const isChosen = finding.finding === state.target;
  const label = { 1: "positive", 0: "negative" }[finding.label] ?? "unknown";
  const outcome = { positive: finding.suggested ? "found" : "missed", negative: finding.suggested ? "false alarm" : "", unknown: "" }[label];
  const choose = () => {
    chooseTarget(opened, finding.finding);
    opened.rows.querySelector("[aria-pressed=true]").focus({ preventScroll: true });
  };
  return make("tr", { class: isChosen ? "chosen" : "" },
    make("td", {}, make("button", { type: "button", "aria-pressed": String(isChosen), onclick: choose }, displayName(finding.finding))),
    make("td", {}, label),
    percentsAlike([finding.probability, finding.threshold]).map((text) => make("td", {}, text)),
    make("td", {}, make("span", { class: ["missed", "false alarm"].includes(outcome) ? "wrong" : "muted" }, outcome)));
}

async function showHeatmap(opened) {
  const { target } = state;
  viewer.showHeatmap(null, 0);
  opened.note.textContent = "";
  opened.note.hidden = !opened.heatmapBox.checked;
  if (opened.note.hidden) return;
  opened.note.textContent = "The heatmap is being computed …";
  try {
    if (!opened.heatmaps.has(target)) {
      const response = await requestWhenFree(addressOf(opened.run, `images/${opened.id}/heatmap?target=${encodeURIComponent(target)}`), { as: "response" });
      opened.heatmaps.set(target, await colourHeatmap(response));
    }
    if (state.open !== opened || state.target !== target) return;
    const heatmap = opened.heatmaps.get(target);
    viewer.showHeatmap(heatmap, Number(opened.opacity.value) / 100);
    opened.note.textContent = heatmap.isBlank ? `No evidence for ${displayName(target)} in this image.` : `Evidence for ${displayName(target)}: where the model looked, not where a lesion is. ${describeOcclusion(heatmap)}`;
  } catch (error) {
    opened.note.textContent = error.message;
  }
}

document.addEventListener("keydown", (event) => {
  if (!state.open || !viewer || event.ctrlKey || event.metaKey || event.altKey || event.target !== viewer.canvas) return;
  const zoomIn = () => viewer.zoomBy(1.25);
  const action = {
    "+": zoomIn, "=": zoomIn, "-": () => viewer.zoomBy(0.8), 0: () => viewer.change({ zoom: 1, x: 0.5, y: 0.5 }),
    i: () => viewer.change({ inverted: !viewer.display.inverted }), r: () => viewer.reset(),
  }[event.key];
  if (action) { event.preventDefault(); action(); }
});
