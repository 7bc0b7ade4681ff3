// What the page for reading images holds: the model, the images, and what is shown of them.

import { byId } from "./dom.js";
import { meanOverImages } from "./findings.js";

const MAX_VIEWS = 4;

export const elements = {
  toolbar: document.querySelector(".toolbar"), empty: byId("empty"), views: byId("views"), strip: byId("strip"), panel: byId("panel"), heatmap: byId("heatmap"),
};

/**
 * `active` is the selected image, `target` the finding whose heatmap is shown, `study` whether the panel shows the mean
 * over all images, `tool` what dragging does, `method` how heatmaps are made.
 */
export const state = {
  model: null, modelError: null, run: null, images: [], active: null, target: null, opacity: 0.45, sideBySide: false, study: false, tool: "window", method: null,
};

/** An address with the chosen run, for a service of a folder of runs. */
export const withRun = (address) => (state.run ? `${address}${address.includes("?") ? "&" : "?"}run=${encodeURIComponent(state.run)}` : address);

export const methodName = (method) => ({ "grad-cam": "Grad-CAM" })[method] ?? method.replaceAll("-", " ");

/** The key of a heatmap among those of an image. */
export const heatmapKey = () => `${state.target} ${state.method}`;

/** The images on screen: the active one, or up to four side by side, the active one among them. */
export function shownImages() {
  if (!state.active) return [];
  if (!state.sideBySide || state.images.length < 2) return [state.active];
  const place = state.images.indexOf(state.active);
  const first = Math.min(Math.max(0, place - (place % MAX_VIEWS)), Math.max(0, state.images.length - MAX_VIEWS));
  return state.images.slice(first, first + MAX_VIEWS);
}

export const scoredImages = () => state.images.filter((image) => image.answer?.findings.length);

export const studyFindings = () => meanOverImages(state.images.map((image) => image.answer).filter(Boolean));
