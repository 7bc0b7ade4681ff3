// The radiographs on screen, the toolbar's values, and the strip of thumbnails.

import { byId, icon, make } from "./dom.js";
import { count, displayName } from "./format.js";
import { drawHeatmapForm } from "./predict_panel.js";
import { elements, heatmapKey, shownImages, state } from "./predict_state.js";
import { Viewer, defaultDisplay } from "./viewer.js";

const BITMAP_CONTROLS = ["width", "level", "zoom-in", "zoom-out", "fit", "invert", "reset"];

const views = [];
const stripButtons = new Map();

export const activeView = () => views.find((view) => view.image === state.active && view.element.isConnected);

function makeView(activate) {
  const viewer = new Viewer({ changed: drawDisplay, activated: () => view.image && activate(view.image), tool: () => state.tool });
  const corner = (name) => make("div", { class: `corner ${name}` });
  const view = { viewer, name: corner("name"), display: corner("display"), heatmap: corner("heatmap-state"), center: make("div", { class: "center" }), image: null };
  view.element = make("div", { class: "view" }, viewer.element, view.name, view.display, view.heatmap, view.center);
  return view;
}

export function drawViews(activate) {
  const images = shownImages();
  elements.views.dataset.count = String(images.length);
  while (views.length < images.length) views.push(makeView(activate));
  const drawn = images.map((image, place) => drawView(views[place], image));
  const { children } = elements.views;
  if (children.length !== drawn.length || drawn.some((element, place) => children[place] !== element)) elements.views.replaceChildren(...drawn);
  drawDisplay();
  drawHeatmapForm();
}

function heatmapText(heatmap) {
  if (heatmap === "loading") return "computing the heatmap …";
  if (heatmap instanceof Error) return "no heatmap";
  return heatmap?.isBlank ? `no evidence for ${displayName(state.target)}` : `heatmap: ${displayName(state.target)}`;
}

function drawView(view, image) {
  view.image = image;
  view.element.classList.toggle("active", image === state.active);
  if (view.viewer.bitmap !== image.bitmap || view.viewer.display !== image.display) view.viewer.show(image.bitmap, image.display, `Radiograph ${image.name}`);
  const hasHeatmap = state.target && image.status === "done";
  const heatmap = hasHeatmap ? image.heatmaps.get(heatmapKey()) : null;
  view.viewer.showHeatmap(heatmap instanceof HTMLCanvasElement ? heatmap : null, state.opacity);
  view.name.textContent = image.name;
  view.heatmap.textContent = hasHeatmap ? heatmapText(heatmap) : "";
  view.heatmap.hidden = !hasHeatmap;
  view.display.hidden = !image.bitmap;
  drawCenter(view.center, image);
  return view.element;
}

/** What is shown where the image is not there yet, or cannot be shown. */
function drawCenter(center, image) {
  const spinner = () => make("span", { class: "spinner" });
  const content = {
    waiting: ["Waiting …"],
    queued: [spinner(), "The service is busy; trying again …"],
    reading: [spinner(), "Reading …"],
    error: [icon("warn"), make("p", {}, image.error?.message ?? "")],
  }[image.status];
  center.hidden = !content || (Boolean(image.bitmap) && image.status !== "error");
  center.className = `center${image.status === "error" ? " error" : ""}`;
  center.replaceChildren(...(content ?? []));
}

/** Window, level and zoom, on the images and in the toolbar. */
export function drawDisplay() {
  for (const view of views.filter(({ image }) => image)) {
    const { width, level, zoom, inverted } = view.image.display;
    view.display.textContent = `W ${width} · L ${level} · ${Math.round(100 * zoom)} %${inverted ? " · inverted" : ""}`;
  }
  const display = state.active?.display ?? defaultDisplay();
  for (const name of ["width", "level"]) {
    byId(name).value = display[name];
    byId(name).nextElementSibling.value = display[name];
  }
  byId("zoom").value = `${Math.round(100 * display.zoom)} %`;
  const pressed = { invert: display.inverted, "side-by-side": state.sideBySide, "tool-window": state.tool === "window", "tool-move": state.tool === "move" };
  for (const [id, isPressed] of Object.entries(pressed)) byId(id).setAttribute("aria-pressed", String(isPressed));
  byId("side-by-side").disabled = state.images.length < 2;
  elements.views.classList.toggle("moving", state.tool === "move");
  for (const name of BITMAP_CONTROLS) byId(name).disabled = !state.active?.bitmap;
}

export function drawStrip(activate) {
  elements.strip.hidden = state.images.length < 2;
  for (const [image, button] of stripButtons) {
    if (state.images.includes(image)) continue;
    button.remove();
    stripButtons.delete(image);
  }
  state.images.forEach((image, place) => {
    if (!stripButtons.has(image)) {
      stripButtons.set(image, make("button", { type: "button", onclick: () => activate(image) }));
      elements.strip.append(stripButtons.get(image));
    }
    drawStripButton(stripButtons.get(image), image, place);
  });
}

function drawStripButton(button, image, place) {
  const suggested = image.answer?.findings.filter((finding) => finding.suggested).length;
  const text = {
    done: suggested ? `${count(suggested, "finding")} suggested` : "no finding suggested", refused: "not scored", error: "not read", waiting: "waiting", queued: "waiting", reading: "being read",
  }[image.status];
  button.title = `${image.name}: ${text}`;
  button.setAttribute("aria-label", `${place + 1} of ${state.images.length}: ${image.name}, ${text}`);
  if (image === state.active) button.setAttribute("aria-current", "true");
  else button.removeAttribute("aria-current");
  const drawn = `${image.status}${suggested}${Boolean(image.thumbnail)}`;
  if (button.dataset.drawn === drawn) return;
  button.dataset.drawn = drawn;
  const badge = { done: [String(suggested), suggested ? "" : " none"], refused: ["!", " bad"], error: ["!", " bad"] }[image.status];
  button.replaceChildren(image.thumbnail ?? (badge ? icon("warn") : make("span", { class: "spinner" })), badge ? make("span", { class: `count${badge[1]}` }, badge[0]) : "");
}
