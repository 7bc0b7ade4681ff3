// The page for reading images: images in, findings out. Files stay in this tab; the service keeps nothing.

import { request, requestWhenFree } from "./api.js";
import { byId, download, make } from "./dom.js";
import { filesOfDrop, filesOfPaste, imagesOfFolder } from "./file_input.js";
import { describeFindings } from "./findings.js";
import { count, displayName } from "./format.js";
import { colourHeatmap } from "./heatmap.js";
import { announce, showAlert } from "./messages.js";
import { modelFacts, modelScores } from "./model_facts.js";
import * as panel from "./predict_panel.js";
import { elements, heatmapKey, methodName, shownImages, state, studyFindings, withRun } from "./predict_state.js";
import * as views from "./predict_views.js";
import { asRecord, fillPrintout } from "./print.js";
import { defaultDisplay } from "./viewer.js";

const MAX_IMAGES = 60;
const CONCURRENT_REQUESTS = 2;
const THUMBNAIL_SIDE = 132;
const PRINT_SIDE = 900;
const MEBIBYTE = 2 ** 20;

// ---- drawing -------------------------------------------------------------------------------------------------

const panelActions = {
  choose, save, remove,
  retry: (image) => { Object.assign(image, { status: "waiting", error: null }); readWaiting(); drawAll(); },
  showStudy: (study) => { state.study = study; drawAll(); },
};

const drawViews = () => views.drawViews(activate);
const drawPanel = () => panel.drawPanel(panelActions);

function drawAll() {
  const isEmpty = !state.images.length;
  elements.empty.hidden = !isEmpty;
  for (const element of [elements.toolbar, elements.views]) element.hidden = isEmpty;
  drawViews();
  views.drawStrip(activate);
  drawPanel();
}

// ---- the model -----------------------------------------------------------------------------------------------

async function loadModel() {
  state.model = state.modelError = null;
  try {
    state.model = await request(withRun("/v1/model"));
    fillMethods();
  } catch (error) {
    state.modelError = error;
    showAlert(error.message);
  }
  const name = state.model?.metadata.name;
  byId("model-button").hidden = !name || byId("run").options.length > 1;
  byId("model-button").querySelector(".model-name").textContent = name ?? "Model";
  byId("target-count").textContent = state.model ? String(state.model.metadata.targets.length) : "its";
  if (state.model?.runs || state.modelError?.code === "no-model") await fillRuns();
  drawPanel();
}

function fillMethods() {
  const { methods, default: defaultMethod } = state.model.heatmaps;
  state.method ??= defaultMethod;
  byId("method").replaceChildren(...methods.map((method) => make("option", { value: method, selected: method === state.method }, methodName(method))));
  byId("method").closest("label").hidden = methods.length < 2;
}

async function fillRuns() {
  byId("runs-link").hidden = false;
  if (byId("run").options.length) return;
  const { runs, best } = await request("/v1/runs").catch(() => ({ runs: [], best: null }));
  const evaluated = runs.filter((run) => run.best_epoch);
  byId("run").replaceChildren(
    ...evaluated.map((run) => make("option", { value: run.name, selected: run.name === (state.run ?? best) }, `${run.name}${run.name === best ? " (best)" : ""}`)),
  );
  byId("run").closest("label").hidden = evaluated.length < 2;
  byId("model-button").hidden = !state.model;
  byId("model-button").querySelector(".model-name").textContent = evaluated.length < 2 ? (state.model?.metadata.name ?? "Model") : "Details";
}

byId("run").addEventListener("change", async () => {
  state.run = byId("run").value;
  state.target = null;
  for (const image of state.images) Object.assign(image, { status: "waiting", answer: null, error: null, heatmaps: new Map() });
  await loadModel();
  drawAll();
  readWaiting();
});

byId("model-button").addEventListener("click", () => {
  const { metadata, research_use: notice } = state.model;
  byId("model-details").replaceChildren(make("p", { class: "muted" }, notice), modelFacts(metadata), modelScores(metadata) ?? "");
  byId("model").showModal();
});

// ---- images --------------------------------------------------------------------------------------------------

function addImages(files) {
  if (!files.length) {
    showAlert("No image found. PNG, JPEG and DICOM files can be read.");
    return;
  }
  const accepted = files.slice(0, Math.max(0, MAX_IMAGES - state.images.length));
  const images = accepted.map((file) => ({
    file, name: file.name || "pasted image", status: "waiting", answer: null, error: null, bitmap: null, display: defaultDisplay(), heatmaps: new Map(), thumbnail: null,
  }));
  state.images.push(...images);
  if (files.length > accepted.length) showAlert(`The page shows at most ${MAX_IMAGES} images; ${files.length - accepted.length} were not added.`);
  else announce(`Reading ${count(images.length, "image")}.`);
  if (images.length) [state.active] = images;
  state.study = false;
  drawAll();
  readWaiting();
}

function remove(image) {
  const place = state.images.indexOf(image);
  state.images.splice(place, 1);
  image.removed = true;
  image.bitmap?.close();
  if (state.active === image) state.active = state.images[Math.min(place, state.images.length - 1)] ?? null;
  if (state.images.length < 2) state.study = false;
  announce(`${image.name} removed.`);
  drawAll();
}

function activate(image) {
  if (state.active === image) return;
  state.active = image;
  drawAll();
  loadHeatmaps();
}

let openRequests = 0;

/** Sends waiting images to the service, a few at a time. */
function readWaiting() {
  while (openRequests < CONCURRENT_REQUESTS) {
    const image = state.images.find(({ status }) => status === "waiting");
    if (!image) return;
    image.status = "reading";
    openRequests += 1;
    read(image).finally(() => {
      openRequests -= 1;
      drawAll();
      readWaiting();
    });
    drawAll();
  }
}

async function read(image) {
  const { run } = state;
  try {
    checkSize(image);
    const body = new FormData();
    body.append("files", image.file, image.name);
    const answer = await requestWhenFree(withRun("/v1/predict?pixels=true"), { method: "POST", body }, () => {
      image.status = "queued";
      drawAll();
    });
    if (image.removed || run !== state.run) return;
    const [result] = answer.images;
    image.bitmap ??= await createImageBitmap(blobOfDataUri(result.pixels));
    image.thumbnail ??= drawScaled(image.bitmap, THUMBNAIL_SIDE / Math.max(image.bitmap.width, image.bitmap.height));
    image.answer = { ...result, pixels: undefined, heatmaps: undefined, model: answer.model };
    image.status = result.status === "read" ? "done" : "refused";
    if (image.status === "refused") showAlert(`${image.name} was not scored. ${result.reason}`);
    else announce(`${image.name}: ${describeFindings(result.findings)}`);
    if (image === state.active) loadHeatmaps();
  } catch (error) {
    if (image.removed) return;
    image.status = "error";
    image.error = error;
    showAlert(`${image.name} could not be read. ${error.message}`);
  }
}

/** Throws an error for a file that the service would refuse, before it is sent. */
function checkSize({ name, file }) {
  const limit = state.model?.limits.file_bytes;
  if (!limit || file.size <= limit) return;
  const message = `${name}: the file has ${(file.size / MEBIBYTE).toFixed(0)} MiB; the limit is ${(limit / MEBIBYTE).toFixed(0)} MiB.`;
  throw Object.assign(new Error(message), { code: "too-large" });
}

/** The Blob of a data URI; `fetch` would need a looser content security policy. */
function blobOfDataUri(uri) {
  const [head, content] = uri.split(",");
  return new Blob([Uint8Array.from(atob(content), (character) => character.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}

function drawScaled(bitmap, scale) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, bitmap.width * scale);
  canvas.height = Math.max(1, bitmap.height * scale);
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

// ---- heatmaps ------------------------------------------------------------------------------------------------

function choose(target) {
  state.target = state.target === target ? null : target;
  drawAll();
  if (state.target) {
    loadHeatmaps();
    announce(`Heatmap of ${displayName(state.target)}.`);
  } else announce("Heatmap hidden.");
  elements.panel.querySelector(`button[data-target="${CSS.escape(target)}"]`)?.focus({ preventScroll: true });
}

/** Loads the heatmaps of the chosen finding for the images on screen. */
function loadHeatmaps() {
  const { target, method } = state;
  if (!target) return;
  const key = heatmapKey();
  for (const image of shownImages()) {
    if (image.status !== "done" || image.heatmaps.has(key)) continue;
    image.heatmaps.set(key, "loading");
    const body = new FormData();
    body.append("file", image.file, image.name);
    requestWhenFree(withRun(`/v1/heatmap?target=${encodeURIComponent(target)}&method=${method}`), { method: "POST", body, as: "response" })
      .then(colourHeatmap)
      .then((canvas) => image.heatmaps.set(key, canvas))
      .catch((error) => {
        image.heatmaps.set(key, error);
        showAlert(error.message);
      })
      .finally(drawViews);
    drawViews();
  }
}

byId("method").addEventListener("change", () => {
  state.method = byId("method").value;
  drawViews();
  loadHeatmaps();
});
byId("opacity").addEventListener("input", () => { state.opacity = Number(byId("opacity").value) / 100; drawViews(); });
byId("heatmap-off").addEventListener("click", () => choose(state.target));
elements.heatmap.addEventListener("submit", (event) => event.preventDefault());

// ---- results as a file and on paper --------------------------------------------------------------------------

function save() {
  download(JSON.stringify(asRecord(state.model, state.images, studyFindings()), null, 2), "hilum-results.json", "application/json");
  announce("The results were saved as JSON.");
}

window.addEventListener("beforeprint", () => {
  const picture = ({ bitmap }) => bitmap && drawScaled(bitmap, Math.min(1, PRINT_SIDE / Math.max(bitmap.width, bitmap.height))).toDataURL("image/jpeg", 0.85);
  fillPrintout(byId("print"), state.model, state.images, studyFindings(), picture);
});

// ---- files ---------------------------------------------------------------------------------------------------

const openFileDialog = () => byId("files").click();
byId("open").addEventListener("click", openFileDialog);
byId("choose").addEventListener("click", openFileDialog);
byId("choose-folder").addEventListener("click", () => byId("folder").click());
byId("files").addEventListener("change", () => { addImages([...byId("files").files]); byId("files").value = ""; });
byId("folder").addEventListener("change", () => {
  const files = [...byId("folder").files].sort((a, b) => a.webkitRelativePath.localeCompare(b.webkitRelativePath, "en", { numeric: true }));
  addImages(imagesOfFolder(files));
  byId("folder").value = "";
});
document.addEventListener("paste", (event) => { const files = filesOfPaste(event.clipboardData); if (files.length) addImages(files); });

let dragDepth = 0; // dragenter and dragleave are sent for each element under the pointer
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => { if (hasFiles(event)) { dragDepth += 1; byId("dropping").hidden = false; } });
document.addEventListener("dragleave", (event) => { if (hasFiles(event) && (dragDepth -= 1) <= 0) { dragDepth = 0; byId("dropping").hidden = true; } });
document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dragDepth = 0;
  byId("dropping").hidden = true;
  addImages(await filesOfDrop(event.dataTransfer));
});

// ---- toolbar and keys ----------------------------------------------------------------------------------------

const change = (settings) => views.activeView()?.viewer.change(settings);
const changeBy = (name, step) => change({ [name]: (state.active?.display[name] ?? 0) + step });
const chooseTool = (tool) => { state.tool = tool; views.drawDisplay(); };
const commands = {
  "zoom-in": () => views.activeView()?.viewer.zoomBy(1.25),
  "zoom-out": () => views.activeView()?.viewer.zoomBy(0.8),
  fit: () => change({ zoom: 1, x: 0.5, y: 0.5 }),
  invert: () => change({ inverted: !state.active.display.inverted }),
  reset: () => views.activeView()?.viewer.reset(),
  "side-by-side": () => { if (state.images.length > 1) { state.sideBySide = !state.sideBySide; drawAll(); loadHeatmaps(); } },
  "tool-window": () => chooseTool("window"),
  "tool-move": () => chooseTool("move"),
};
for (const [id, run] of Object.entries(commands)) byId(id).addEventListener("click", run);
for (const name of ["width", "level"]) byId(name).addEventListener("input", () => change({ [name]: Number(byId(name).value) }));

byId("help").addEventListener("click", () => byId("keys").showModal());
byId("keys-on").checked = localStorage.getItem("hilum-keys") !== "off";
byId("keys-on").addEventListener("change", () => localStorage.setItem("hilum-keys", byId("keys-on").checked ? "on" : "off"));

function stepImage(step) {
  if (!state.images.length) return;
  const place = state.images.indexOf(state.active);
  activate(state.images[(place + step + state.images.length) % state.images.length]);
}

let lastTarget = null;

function stepFinding(step) {
  const targets = [...elements.panel.querySelectorAll("button[data-target]")].map((button) => button.dataset.target);
  if (!targets.length) return;
  const place = targets.indexOf(state.target);
  const next = place < 0 ? (step > 0 ? 0 : targets.length - 1) : (place + step + targets.length) % targets.length;
  lastTarget = targets[next];
  choose(lastTarget);
}

function toggleHeatmap() {
  if (state.target) lastTarget = state.target;
  if (lastTarget) choose(lastTarget);
  else stepFinding(1);
}

const keys = {
  o: openFileDialog, n: () => stepImage(1), p: () => stepImage(-1), j: () => stepFinding(1), k: () => stepFinding(-1), h: toggleHeatmap,
  "[": () => changeBy("width", -16), "]": () => changeBy("width", 16), ";": () => changeBy("level", -8), "'": () => changeBy("level", 8),
  "+": commands["zoom-in"], "=": commands["zoom-in"], "-": commands["zoom-out"], "−": commands["zoom-out"], 0: commands.fit,
  i: () => state.active?.bitmap && commands.invert(), r: commands.reset, s: commands["side-by-side"],
  m: () => chooseTool(state.tool === "window" ? "move" : "window"), "?": () => byId("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !byId("keys-on").checked) return;
  if (document.querySelector("dialog[open]") || event.target.matches("input:not([type=range]), select, textarea")) return;
  const run = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!run) return;
  event.preventDefault();
  run();
});

// On a touch screen, dragging moves the image by default.
if (matchMedia("(pointer: coarse)").matches) state.tool = "move";
state.run = new URLSearchParams(location.search).get("run") || null;
drawAll();
loadModel();
