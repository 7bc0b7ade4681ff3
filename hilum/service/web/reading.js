// The reading page: images in, findings beside them. Files stay in this tab; the service keeps nothing.

import { ask, askPatiently } from "./api.js";
import { findingsList, inWords, meanOverImages } from "./findings.js";
import { fromDrop, fromFolder, fromPaste } from "./files.js";
import { colouredHeatmap, occlusionInWords } from "./heat.js";
import { modelFacts, modelScores } from "./model.js";
import { fillPrint, record } from "./printing.js";
import { Viewer, freshLook } from "./viewer.js";
import { count, download, icon, make, plain } from "./words.js";

const MOST_IMAGES = 60;
const AT_ONCE = 2;
const MOST_SIDES = 4;

const at = (id) => document.getElementById(id);
const parts = {
  toolbar: document.querySelector(".toolbar"), empty: at("empty"), views: at("views"), strip: at("strip"), panel: at("panel"), heat: at("heat"),
};

const state = { model: null, modelError: null, run: null, images: [], active: null, target: null, opacity: 0.45, sides: false, study: false, tool: "window", method: null };
const views = [];
let nextId = 1;

// ---- telling -------------------------------------------------------------------------------------------------

const say = (words) => { at("said").textContent = words; };
const alarm = (words) => { at("alarmed").textContent = words; };

// ---- the model -----------------------------------------------------------------------------------------------

const withRun = (address) => (state.run ? `${address}${address.includes("?") ? "&" : "?"}run=${encodeURIComponent(state.run)}` : address);

async function openModel() {
  state.model = state.modelError = null;
  try {
    state.model = await ask(withRun("/v1/model"));
    offerMethods();
  } catch (error) {
    state.modelError = error;
    alarm(error.message);
  }
  const name = state.model?.card.name;
  at("about-model").hidden = !name || at("run").options.length > 1;
  at("about-model").querySelector(".model-name").textContent = name ?? "Model";
  at("how-many").textContent = state.model ? String(state.model.card.targets.length) : "its";
  if (state.model?.runs || state.modelError?.code === "no-model") await offerRuns();
  drawPanel();
}

function offerMethods() {
  const { methods, default: usual } = state.model.heatmaps;
  state.method ??= usual;
  at("method").replaceChildren(...methods.map((method) => make("option", { value: method, selected: method === state.method }, inProse(method))));
  at("method").closest("label").hidden = methods.length < 2;
}

const inProse = (method) => ({ "grad-cam": "Grad-CAM" })[method] ?? method.replaceAll("-", " ");

at("method").addEventListener("change", () => {
  state.method = at("method").value;
  drawViews();
  fetchHeat();
});

async function offerRuns() {
  at("to-runs").hidden = false;
  if (at("run").options.length) return;
  const { runs, best } = await ask("/v1/runs").catch(() => ({ runs: [], best: null }));
  const readable = runs.filter((run) => run.best_epoch);
  at("run").replaceChildren(
    ...readable.map((run) => make("option", { value: run.name, selected: run.name === (state.run ?? best) }, `${run.name}${run.name === best ? " (best)" : ""}`)),
  );
  at("run").closest("label").hidden = readable.length < 2;
  at("about-model").hidden = !state.model;
  at("about-model").querySelector(".model-name").textContent = readable.length < 2 ? (state.model?.card.name ?? "Model") : "About it";
}

at("run").addEventListener("change", async () => {
  state.run = at("run").value;
  state.target = null;
  for (const image of state.images) Object.assign(image, { status: "waiting", answer: null, error: null, heats: new Map() });
  await openModel();
  drawAll();
  work();
});

at("about-model").addEventListener("click", () => {
  at("model-card").replaceChildren(make("p", { class: "soft" }, state.model.research_use), modelFacts(state.model.card), modelScores(state.model.card) ?? "");
  at("model").showModal();
});

// ---- images --------------------------------------------------------------------------------------------------

function add(files) {
  const room = MOST_IMAGES - state.images.length;
  const taken = files.slice(0, Math.max(0, room));
  if (!files.length) return alarm("There is no image in that. PNG, JPEG and DICOM files are read.");
  const images = taken.map((file) => ({
    id: nextId++, file, name: file.name || "pasted image", status: "waiting", answer: null, error: null, bitmap: null, look: freshLook(), heats: new Map(), thumb: null,
  }));
  state.images.push(...images);
  if (files.length > taken.length) alarm(`The page holds ${MOST_IMAGES} images; ${files.length - taken.length} were left out.`);
  else say(`Reading ${count(images.length, "image")}.`);
  if (images.length && !state.images.includes(state.active)) state.active = images[0];
  else if (images.length) state.active = images[0];
  state.study = false;
  drawAll();
  work();
  return undefined;
}

function remove(image) {
  const place = state.images.indexOf(image);
  state.images.splice(place, 1);
  image.removed = true;
  image.bitmap?.close();
  if (state.active === image) state.active = state.images[Math.min(place, state.images.length - 1)] ?? null;
  if (state.images.length < 2) state.study = false;
  say(`${image.name} removed.`);
  drawAll();
}

let working = 0;

function work() {
  while (working < AT_ONCE) {
    const image = state.images.find(({ status }) => status === "waiting");
    if (!image) return;
    image.status = "reading";
    working += 1;
    read(image).finally(() => {
      working -= 1;
      drawAll();
      work();
    });
    drawAll();
  }
}

async function read(image) {
  const run = state.run;
  try {
    const most = state.model?.limits.file_bytes;
    if (most && image.file.size > most) {
      throw Object.assign(new Error(`${image.name}: the file has ${(image.file.size / 2 ** 20).toFixed(0)} MiB; at most ${(most / 2 ** 20).toFixed(0)} are read.`), { code: "too-large" });
    }
    const body = new FormData();
    body.append("files", image.file, image.name);
    const answer = await askPatiently(withRun("/v1/predict?pixels=true"), { method: "POST", body }, () => {
      image.status = "queued";
      drawAll();
    });
    if (image.removed || run !== state.run) return;
    const [found] = answer.images;
    image.bitmap ??= await createImageBitmap(fromDataUri(found.pixels));
    image.thumb ??= thumbnail(image.bitmap);
    image.answer = { ...found, pixels: undefined, heatmaps: undefined, model: answer.model };
    image.status = found.refused ? "refused" : "done";
    if (found.refused) alarm(`${image.name} was not scored. ${found.flags.map((flag) => flag.words).join(" ")}`);
    else say(`${image.name}: ${inWords(found.findings)}`);
    if (image === state.active) fetchHeat();
  } catch (error) {
    if (image.removed) return;
    image.status = "error";
    image.error = error;
    alarm(`${image.name} could not be read. ${error.message}`);
  }
}

/** The Blob of a data URI; fetching it would need a looser content security policy. */
function fromDataUri(address) {
  const [head, content] = address.split(",");
  return new Blob([Uint8Array.from(atob(content), (character) => character.charCodeAt(0))], { type: head.slice(5).split(";")[0] });
}

function thumbnail(bitmap) {
  const canvas = document.createElement("canvas");
  const scale = 132 / Math.max(bitmap.width, bitmap.height);
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
    fetchHeat();
    say(`Heatmap of ${plain(state.target)}.`);
  } else say("Heatmap hidden.");
  at("panel").querySelector(`button[data-target="${CSS.escape(target)}"]`)?.focus({ preventScroll: true });
}

const heatKey = () => `${state.target} ${state.method}`;

async function fetchHeat() {
  const { target, method } = state;
  if (!target) return;
  const key = heatKey();
  for (const image of shown()) {
    if (image.status !== "done" || image.heats.has(key)) continue;
    image.heats.set(key, "coming");
    const body = new FormData();
    body.append("file", image.file, image.name);
    askPatiently(withRun(`/v1/heatmap?target=${encodeURIComponent(target)}&method=${method}`), { method: "POST", body, as: "response" })
      .then(colouredHeatmap)
      .then((canvas) => image.heats.set(key, canvas))
      .catch((error) => {
        image.heats.set(key, error);
        alarm(error.message);
      })
      .finally(drawViews);
    drawViews();
  }
}

// ---- drawing -------------------------------------------------------------------------------------------------

/** The images on screen: the active one, or up to four side by side with it among them. */
function shown() {
  if (!state.active) return [];
  if (!state.sides || state.images.length < 2) return [state.active];
  const place = state.images.indexOf(state.active);
  const first = Math.min(Math.max(0, place - (place % MOST_SIDES)), Math.max(0, state.images.length - MOST_SIDES));
  return state.images.slice(first, first + MOST_SIDES);
}

function drawAll() {
  const some = state.images.length > 0;
  parts.empty.hidden = some;
  for (const part of [parts.toolbar, parts.views]) part.hidden = !some;
  drawViews();
  drawStrip();
  drawPanel();
}

function makeView() {
  const viewer = new Viewer({ changed: drawLook, activated: () => view.image && activate(view.image), tool: () => state.tool });
  const name = make("div", { class: "corner name" }), look = make("div", { class: "corner look" }), over = make("div", { class: "corner over" }), center = make("div", { class: "center" });
  const view = { viewer, name, look, over, center, image: null, element: make("div", { class: "view" }, viewer.element, name, look, over, center) };
  views.push(view);
  return view;
}

function drawViews() {
  const images = shown();
  parts.views.dataset.count = String(images.length);
  while (views.length < images.length) makeView();
  const elements = images.map((image, place) => drawView(views[place], image));
  if (elements.some((element, place) => parts.views.children[place] !== element) || parts.views.children.length !== elements.length) parts.views.replaceChildren(...elements);
  drawLook();
  drawHeatForm();
}

function drawView(view, image) {
  view.image = image;
  view.element.classList.toggle("active", image === state.active);
  if (view.viewer.bitmap !== image.bitmap || view.viewer.look !== image.look) view.viewer.show(image.bitmap, image.look, `Radiograph ${image.name}`);
  const heat = state.target && image.status === "done" ? image.heats.get(heatKey()) : null;
  view.viewer.showHeat(heat instanceof HTMLCanvasElement ? heat : null, state.opacity);
  view.name.textContent = image.name;
  const word = !state.target || image.status !== "done" ? "" : heat === "coming" ? "heatmap on its way …" : heat instanceof Error ? "no heatmap" : heat?.isCold ? `nothing speaks for ${plain(state.target)}` : `heatmap: ${plain(state.target)}`;
  view.over.textContent = word;
  view.over.hidden = !word;
  view.look.hidden = !image.bitmap;
  const [kind, ...content] = {
    waiting: ["", "Waiting for its turn …"],
    queued: ["", make("span", { class: "spinner" }), "The service is busy; this image is asked for again …"],
    reading: ["", make("span", { class: "spinner" }), "Reading …"],
    error: ["error", icon("warn"), make("p", {}, image.error?.message ?? "")],
  }[image.status] ?? [null];
  view.center.hidden = kind === null || (Boolean(image.bitmap) && image.status !== "error");
  view.center.className = `center ${kind ?? ""}`;
  view.center.replaceChildren(...content);
  return view.element;
}

const activeView = () => views.find((view) => view.image === state.active && view.element.isConnected);

function drawLook() {
  for (const view of views) {
    if (!view.image) continue;
    const { width, level, zoom, inverted } = view.image.look;
    view.look.textContent = `W ${width} · L ${level} · ${Math.round(100 * zoom)} %${inverted ? " · inverted" : ""}`;
  }
  const look = state.active?.look ?? freshLook();
  for (const name of ["width", "level"]) {
    at(name).value = look[name];
    at(name).nextElementSibling.value = look[name];
  }
  at("zoom").value = `${Math.round(100 * look.zoom)} %`;
  at("invert").setAttribute("aria-pressed", String(look.inverted));
  at("sides").setAttribute("aria-pressed", String(state.sides));
  at("sides").disabled = state.images.length < 2;
  at("tool-window").setAttribute("aria-pressed", String(state.tool === "window"));
  at("tool-move").setAttribute("aria-pressed", String(state.tool === "move"));
  parts.views.classList.toggle("moving", state.tool === "move");
  for (const name of ["width", "level", "zoom-in", "zoom-out", "fit", "invert", "reset"]) at(name).disabled = !state.active?.bitmap;
}

const stripButtons = new Map();

function drawStrip() {
  parts.strip.hidden = state.images.length < 2;
  for (const [image, button] of stripButtons) {
    if (state.images.includes(image)) continue;
    button.remove();
    stripButtons.delete(image);
  }
  state.images.forEach((image, place) => {
    let button = stripButtons.get(image);
    if (!button) {
      button = make("button", { type: "button", onclick: () => activate(image) });
      stripButtons.set(image, button);
      parts.strip.append(button);
    }
    const suggested = image.answer?.findings.filter((finding) => finding.suggested).length;
    const words = {
      done: suggested ? `${count(suggested, "finding")} suggested` : "no finding suggested", refused: "not scored", error: "not read", waiting: "waiting", queued: "waiting", reading: "being read",
    }[image.status];
    const badge = { done: [String(suggested), suggested ? "" : " none"], refused: ["!", " bad"], error: ["!", " bad"] }[image.status];
    button.title = `${image.name}: ${words}`;
    button.setAttribute("aria-label", `${place + 1} of ${state.images.length}: ${image.name}, ${words}`);
    if (image === state.active) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    const key = `${image.status}${suggested}${Boolean(image.thumb)}`;
    if (button.dataset.drawn === key) return;
    button.dataset.drawn = key;
    button.replaceChildren(image.thumb ?? (badge ? icon("warn") : make("span", { class: "spinner" })), badge ? make("span", { class: `count${badge[1]}` }, badge[0]) : "");
  });
}

function drawPanel() {
  const focused = document.activeElement?.dataset?.target;
  const image = state.active;
  const content = image ? (state.study ? studyPanel() : imagePanel(image)) : emptyPanel();
  const top = parts.panel.scrollTop;
  parts.panel.replaceChildren(...content.filter(Boolean));
  parts.panel.scrollTop = top;
  if (focused) parts.panel.querySelector(`button[data-target="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  drawHeatForm();
}

function emptyPanel() {
  if (state.modelError) {
    return [
      make("div", { class: "callout error" }, icon("warn"), make("p", {}, make("b", {}, "There is no model to read with"), state.modelError.message)),
      state.modelError.code === "no-model" ? make("p", { class: "none" }, "The table of runs says what there is: ", make("a", { href: "/runs" }, "runs"), ".") : null,
    ];
  }
  if (!state.model) return [make("p", { class: "none" }, make("span", { class: "spinner" }), " The model is being opened …")];
  return [make("div", { class: "panel-head" }, make("h2", {}, "The model that reads")), modelFacts(state.model.card), make("h3", { class: "list-head" }, "On its validation images"), modelScores(state.model.card, 3)];
}

function segments() {
  const read = state.images.filter((image) => image.answer?.findings.length).length;
  if (state.images.length < 2) return null;
  const choice = (study, words) => make("button", { type: "button", "aria-pressed": String(state.study === study), onclick: () => { state.study = study; drawAll(); } }, words);
  return make("div", { class: "seg", role: "group", "aria-label": "Findings of" }, choice(false, "This image"), choice(true, `Study: mean of ${read}`));
}

function actions(image) {
  const anything = state.images.some(({ answer }) => answer);
  return make(
    "div",
    { class: "actions" },
    make("button", { type: "button", id: "save", disabled: !anything, onclick: save }, icon("down"), "JSON"),
    make("button", { type: "button", id: "print-it", disabled: !anything, onclick: () => window.print() }, icon("print"), "Print"),
    image ? make("button", { type: "button", id: "remove", onclick: () => remove(image) }, icon("close"), "Remove") : null,
  );
}

function imagePanel(image) {
  const { answer } = image;
  const size = answer ? `${answer.columns} × ${answer.rows} pixels · ${answer.view ? `${answer.view} view` : "view not stated"}` : "";
  const head = make("div", { class: "panel-head" }, make("h2", {}, image.name), size ? make("p", {}, size) : null);
  const told = [];
  if (image.error) {
    told.push(make("div", { class: "callout error" }, icon("warn"), make("p", {}, make("b", {}, "This file could not be read"), image.error.message)));
    told.push(make("div", { class: "actions" }, make("button", { type: "button", id: "again", onclick: () => { Object.assign(image, { status: "waiting", error: null }); work(); drawAll(); } }, icon("reset"), "Try again")));
  }
  for (const flag of answer?.flags ?? []) {
    told.push(make("div", { class: `callout ${flag.refused ? "refusal" : "flag"}` }, icon(flag.refused ? "stop" : "warn"), make("p", {}, flag.refused ? make("b", {}, "Not scored") : null, flag.words)));
  }
  const busy = { waiting: "Waiting for its turn …", queued: "The service is busy; asking again …", reading: "Reading …" }[image.status];
  return [
    segments(), head, told.length ? make("div", { class: "callouts" }, told) : null,
    busy ? make("p", { class: "none" }, make("span", { class: "spinner" }), ` ${busy}`) : null,
    answer?.findings.length ? findingsList(answer.findings, { chosen: state.target, choose }) : null,
    actions(image),
  ];
}

const studyFindings = () => meanOverImages(state.images.map((image) => image.answer).filter(Boolean));

function studyPanel() {
  const findings = studyFindings();
  const read = state.images.filter((image) => image.answer?.findings.length).length;
  const left = state.images.length - read;
  return [
    segments(),
    make("div", { class: "panel-head" }, make("h2", {}, "The study"), make("p", {}, `The mean probability over ${count(read, "image")}${left ? `; ${left} not scored or not read` : ""}. It makes sense only if they are of one patient and one study.`)),
    findings.length ? findingsList(findings, { chosen: state.target, choose }) : make("p", { class: "none" }, "No image has been scored."),
    actions(null),
  ];
}

function drawHeatForm() {
  parts.heat.hidden = !state.target || !shown().some((image) => image.status === "done");
  if (parts.heat.hidden) return;
  at("heat-name").textContent = `Heatmap: ${plain(state.target)}`;
  at("opacity").value = Math.round(100 * state.opacity);
  at("opacity").nextElementSibling.value = `${Math.round(100 * state.opacity)} %`;
  const problem = shown().map((image) => image.heats.get(heatKey())).find((heat) => heat instanceof Error);
  at("heat-note").textContent = problem ? problem.message : `What spoke for the finding (${inProse(state.method)}): where the model looked, not where a lesion is.`;
  at("heat-note").className = problem ? "bad" : "soft";
  const heat = state.active?.heats.get(heatKey());
  at("heat-check").textContent = heat instanceof HTMLCanvasElement ? occlusionInWords(heat) : "";
}

function activate(image) {
  if (state.active === image) return;
  state.active = image;
  drawAll();
  fetchHeat();
}

function save() {
  download(JSON.stringify(record(state.model, state.images, studyFindings()), null, 2), "hilum-reading.json", "application/json");
  say("The reading was saved as JSON.");
}

window.addEventListener("beforeprint", () => {
  const canvas = document.createElement("canvas");
  fillPrint(at("print"), state.model, state.images, studyFindings(), (image) => {
    if (!image.bitmap) return null;
    const scale = Math.min(1, 900 / Math.max(image.bitmap.width, image.bitmap.height));
    canvas.width = image.bitmap.width * scale;
    canvas.height = image.bitmap.height * scale;
    canvas.getContext("2d").drawImage(image.bitmap, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.85);
  });
});

// ---- what the user does --------------------------------------------------------------------------------------

const pick = () => at("files").click();
at("open").addEventListener("click", pick);
at("choose").addEventListener("click", pick);
at("choose-folder").addEventListener("click", () => at("folder").click());
at("files").addEventListener("change", () => { add([...at("files").files]); at("files").value = ""; });
at("folder").addEventListener("change", () => {
  const all = [...at("folder").files].sort((a, b) => a.webkitRelativePath.localeCompare(b.webkitRelativePath, "en", { numeric: true }));
  add(fromFolder(all));
  at("folder").value = "";
});
document.addEventListener("paste", (event) => { const files = fromPaste(event.clipboardData); if (files.length) add(files); });

let over = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
document.addEventListener("dragenter", (event) => { if (carriesFiles(event)) { over += 1; at("dropping").hidden = false; } });
document.addEventListener("dragleave", (event) => { if (carriesFiles(event) && (over -= 1) <= 0) { over = 0; at("dropping").hidden = true; } });
document.addEventListener("dragover", (event) => { if (carriesFiles(event)) event.preventDefault(); });
document.addEventListener("drop", async (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  over = 0;
  at("dropping").hidden = true;
  add(await fromDrop(event.dataTransfer));
});

const change = (look) => activeView()?.viewer.change(look);
at("width").addEventListener("input", () => change({ width: Number(at("width").value) }));
at("level").addEventListener("input", () => change({ level: Number(at("level").value) }));
const doing = {
  "zoom-in": () => activeView()?.viewer.zoomBy(1.25),
  "zoom-out": () => activeView()?.viewer.zoomBy(0.8),
  fit: () => change({ zoom: 1, x: 0.5, y: 0.5 }),
  invert: () => change({ inverted: !state.active.look.inverted }),
  reset: () => activeView()?.viewer.reset(),
  sides: () => { if (state.images.length > 1) { state.sides = !state.sides; drawAll(); fetchHeat(); } },
  "tool-window": () => { state.tool = "window"; drawLook(); },
  "tool-move": () => { state.tool = "move"; drawLook(); },
};
for (const [id, act] of Object.entries(doing)) at(id).addEventListener("click", act);

at("opacity").addEventListener("input", () => { state.opacity = Number(at("opacity").value) / 100; drawViews(); });
at("heat-off").addEventListener("click", () => choose(state.target));
parts.heat.addEventListener("submit", (event) => event.preventDefault());
at("help").addEventListener("click", () => at("keys").showModal());
at("keys-on").checked = localStorage.getItem("hilum-keys") !== "off";
at("keys-on").addEventListener("change", () => localStorage.setItem("hilum-keys", at("keys-on").checked ? "on" : "off"));

function stepImage(by) {
  if (!state.images.length) return;
  const place = state.images.indexOf(state.active);
  activate(state.images[(place + by + state.images.length) % state.images.length]);
}

function stepFinding(by) {
  const targets = [...parts.panel.querySelectorAll("button[data-target]")].map((button) => button.dataset.target);
  if (!targets.length) return;
  const place = targets.indexOf(state.target);
  const next = place < 0 ? (by > 0 ? 0 : targets.length - 1) : (place + by + targets.length) % targets.length;
  lastTarget = targets[next];
  choose(targets[next]);
}

let lastTarget = null;

const keys = {
  o: pick, n: () => stepImage(1), p: () => stepImage(-1), j: () => stepFinding(1), k: () => stepFinding(-1),
  h: () => {
    if (state.target) { lastTarget = state.target; choose(state.target); } else if (lastTarget) choose(lastTarget); else stepFinding(1);
  },
  "[": () => change({ width: (state.active?.look.width ?? 0) - 16 }), "]": () => change({ width: (state.active?.look.width ?? 0) + 16 }),
  ";": () => change({ level: (state.active?.look.level ?? 0) - 8 }), "'": () => change({ level: (state.active?.look.level ?? 0) + 8 }),
  "+": doing["zoom-in"], "=": doing["zoom-in"], "-": doing["zoom-out"], "−": doing["zoom-out"], 0: doing.fit,
  i: () => state.active?.bitmap && doing.invert(), r: doing.reset, s: doing.sides,
  m: () => doing[state.tool === "window" ? "tool-move" : "tool-window"](), "?": () => at("keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !at("keys-on").checked) return;
  if (document.querySelector("dialog[open]") || event.target.matches("input:not([type=range]), select, textarea")) return;
  const act = keys[event.key] ?? keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

// A coarse pointer scrolls and pans more than it windows.
if (matchMedia("(pointer: coarse)").matches) state.tool = "move";
const asked = new URLSearchParams(location.search).get("run");
if (asked) state.run = asked;
drawAll();
openModel();
