// One radiograph on a canvas: window and level, zoom and pan, invert, and a heatmap on top.

import { make } from "./dom.js";

const FULL_WINDOW = 256;
const MAX_WINDOW = 512;
const MAX_ZOOM = 24;

/** How a radiograph is displayed; each image keeps its own settings while it is not on screen. */
export const defaultDisplay = () => ({ width: FULL_WINDOW, level: 128, zoom: 1, x: 0.5, y: 0.5, inverted: false });

export class Viewer {
  /** `changed` is called after each change of the display; `tool()` is what a drag does: "window" or "move". */
  constructor({ changed = () => {}, activated = () => {}, tool = () => "window" } = {}) {
    this.changed = changed;
    this.tool = tool;
    this.display = defaultDisplay();
    this.bitmap = null;
    this.heatmap = null;
    this.heatmapOpacity = 0.45;
    this.canvas = make("canvas", {
      tabindex: "0",
      role: "application",
      "aria-roledescription": "radiograph viewer",
      "aria-describedby": "viewer-keys",
    });
    this.element = make("div", { class: "viewport" }, this.canvas);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.lookup = new Uint32Array(256);
    this.pointers = new Map();
    this.canvas.addEventListener("pointerdown", (event) => { activated(); this.onPress(event); });
    this.canvas.addEventListener("pointermove", (event) => this.onDrag(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) this.canvas.addEventListener(end, (event) => this.onRelease(event));
    this.canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", (event) => this.zoomAt(this.display.zoom > 1.01 ? 1 / this.display.zoom : Math.max(2, this.scaleOfPixels()), event));
    this.canvas.addEventListener("focus", activated);
    this.canvas.addEventListener("keydown", (event) => this.onKey(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Shows a bitmap with its display settings, which this viewer changes; null clears the canvas. */
  show(bitmap, display, label) {
    this.bitmap = bitmap;
    this.display = display ?? defaultDisplay();
    this.label = label ?? "";
    this.draw();
  }

  showHeatmap(canvas, opacity) {
    this.heatmap = canvas;
    this.heatmapOpacity = opacity;
    this.draw();
  }

  change(display) {
    Object.assign(this.display, display);
    this.display.width = Math.round(Math.min(MAX_WINDOW, Math.max(2, this.display.width)));
    this.display.level = Math.round(Math.min(255, Math.max(0, this.display.level)));
    this.display.zoom = Math.min(MAX_ZOOM, Math.max(1, this.display.zoom));
    this.keepInside();
    this.draw();
    this.changed();
  }

  reset() { this.change(defaultDisplay()); }

  zoomBy(factor) { this.change({ zoom: this.display.zoom * factor }); }

  /** The zoom at which one pixel of the image is one pixel of the screen. */
  scaleOfPixels() { return this.bitmap ? Math.max(1, 1 / this.fitScale()) : 1; }

  fitScale() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas;
    return Math.min(width / this.bitmap.width, height / this.bitmap.height) || 1 / ratio;
  }

  /** The image's scale and corner on the canvas, in pixels of the canvas. */
  place() {
    const scale = this.fitScale() * this.display.zoom;
    return {
      scale,
      left: this.canvas.width / 2 - this.display.x * this.bitmap.width * scale,
      top: this.canvas.height / 2 - this.display.y * this.bitmap.height * scale,
    };
  }

  keepInside() {
    if (!this.bitmap) return;
    const scale = this.fitScale() * this.display.zoom;
    for (const [axis, size, side] of [["x", this.bitmap.width, this.canvas.width], ["y", this.bitmap.height, this.canvas.height]]) {
      const half = side / (2 * size * scale);
      this.display[axis] = half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, this.display[axis]));
    }
  }

  draw() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      this.drawNow();
    });
  }

  drawNow() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.element.clientWidth * ratio);
    const height = Math.round(this.element.clientHeight * ratio);
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const { context } = this;
    context.clearRect(0, 0, width, height);
    this.describe();
    if (!this.bitmap) return;
    this.keepInside();
    const { scale, left, top } = this.place();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, left, top, this.bitmap.width * scale, this.bitmap.height * scale);
    this.applyWindow(left, top, this.bitmap.width * scale, this.bitmap.height * scale);
    if (this.heatmap && this.heatmapOpacity > 0) {
      context.globalAlpha = this.heatmapOpacity;
      context.drawImage(this.heatmap, left, top, this.bitmap.width * scale, this.bitmap.height * scale);
      context.globalAlpha = 1;
    }
  }

  /** Window and level as a lookup table, applied to the visible pixels only: large images cost no more. */
  applyWindow(left, top, width, height) {
    const { display, canvas } = this;
    if (display.width === FULL_WINDOW && display.level === 128 && !display.inverted) return;
    const x = Math.max(0, Math.floor(left)), y = Math.max(0, Math.floor(top));
    const right = Math.min(canvas.width, Math.ceil(left + width)), bottom = Math.min(canvas.height, Math.ceil(top + height));
    if (right <= x || bottom <= y) return;
    const low = display.level - display.width / 2;
    for (let level = 0; level < 256; level += 1) {
      let shown = Math.min(255, Math.max(0, Math.round(((level - low) / display.width) * 255)));
      if (display.inverted) shown = 255 - shown;
      this.lookup[level] = (255 << 24) | (shown << 16) | (shown << 8) | shown;
    }
    const image = this.context.getImageData(x, y, right - x, bottom - y);
    const pixels = new Uint32Array(image.data.buffer);
    for (let place = 0; place < pixels.length; place += 1) pixels[place] = this.lookup[pixels[place] & 255];
    this.context.putImageData(image, x, y);
  }

  describe() {
    const { display } = this;
    const text = this.bitmap
      ? `${this.label}. Window ${display.width}, level ${display.level}, zoom ${Math.round(100 * display.zoom)} %${display.inverted ? ", inverted" : ""}`
      : "No radiograph";
    if (this.text !== text) this.canvas.setAttribute("aria-label", (this.text = text));
  }

  onPress(event) {
    if (!this.bitmap) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const moves = this.tool() === "move" || event.shiftKey || event.button === 1 || event.button === 2;
    this.dragging = moves ? "move" : "window";
    this.canvas.dataset.dragging = this.dragging;
    if (event.button === 1) event.preventDefault();
  }

  onDrag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.x, dy = event.clientY - before.y;
    if (this.pointers.size === 2) this.onPinch(event);
    else if (this.dragging === "move") this.panBy(dx, dy);
    else this.change({ width: this.display.width + dx * 0.75, level: this.display.level + dy * 0.5 });
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  onRelease(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) delete this.canvas.dataset.dragging;
  }

  onPinch(event) {
    const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
    const before = this.pointers.get(event.pointerId);
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    const now = { x: event.clientX, y: event.clientY };
    this.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoomAt(distance(now) / distance(before), { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
  }

  onWheel(event) {
    if (!this.bitmap) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    this.zoomAt(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), event);
  }

  /** Zooms around the pointer: the pixel under it stays there. */
  zoomAt(factor, { clientX, clientY }) {
    if (!this.bitmap) return;
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const offset = { x: (clientX - box.left) * ratio - this.canvas.width / 2, y: (clientY - box.top) * ratio - this.canvas.height / 2 };
    const { scale } = this.place();
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.display.zoom * factor));
    const after = scale * (zoom / this.display.zoom);
    this.change({
      zoom,
      x: this.display.x + (offset.x / scale - offset.x / after) / this.bitmap.width,
      y: this.display.y + (offset.y / scale - offset.y / after) / this.bitmap.height,
    });
  }

  panBy(dx, dy) {
    const ratio = window.devicePixelRatio || 1;
    const { scale } = this.place();
    this.change({
      x: this.display.x - (dx * ratio) / scale / this.bitmap.width,
      y: this.display.y - (dy * ratio) / scale / this.bitmap.height,
    });
  }

  onKey(event) {
    if (!this.bitmap || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.shiftKey) this.change({ width: this.display.width + 8 * step[0], level: this.display.level - 4 * step[1] });
    else this.panBy(-40 * step[0], -40 * step[1]);
  }
}
