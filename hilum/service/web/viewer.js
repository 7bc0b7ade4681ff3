// One radiograph on a canvas: window and level, zoom and pan, invert, and a heatmap on top.

import { make } from "./words.js";

const FULL_WINDOW = 256;
const MOST_ZOOM = 24;

/** How a radiograph is looked at; kept with the image while it is not on screen. */
export const freshLook = () => ({ width: FULL_WINDOW, level: 128, zoom: 1, x: 0.5, y: 0.5, inverted: false });

export class Viewer {
  /** `changed` is called whenever the look has changed; `tool()` says what one finger or the left button does. */
  constructor({ changed = () => {}, activated = () => {}, tool = () => "window" } = {}) {
    this.changed = changed;
    this.tool = tool;
    this.look = freshLook();
    this.bitmap = null;
    this.heat = null;
    this.heatOpacity = 0.45;
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
    this.canvas.addEventListener("pointerdown", (event) => { activated(); this.pressed(event); });
    this.canvas.addEventListener("pointermove", (event) => this.dragged(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) this.canvas.addEventListener(end, (event) => this.released(event));
    this.canvas.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    this.canvas.addEventListener("dblclick", (event) => this.zoomAt(this.look.zoom > 1.01 ? 1 / this.look.zoom : Math.max(2, this.scaleOfPixels()), event));
    this.canvas.addEventListener("focus", activated);
    this.canvas.addEventListener("keydown", (event) => this.keyed(event));
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Shows a bitmap with a look, which this viewer changes from now on; null empties it. */
  show(bitmap, look, label) {
    this.bitmap = bitmap;
    this.look = look ?? freshLook();
    this.label = label ?? "";
    this.draw();
  }

  showHeat(canvas, opacity) {
    this.heat = canvas;
    this.heatOpacity = opacity;
    this.draw();
  }

  change(look) {
    Object.assign(this.look, look);
    const most = 512;
    this.look.width = Math.round(Math.min(most, Math.max(2, this.look.width)));
    this.look.level = Math.round(Math.min(255, Math.max(0, this.look.level)));
    this.look.zoom = Math.min(MOST_ZOOM, Math.max(1, this.look.zoom));
    this.keepInside();
    this.draw();
    this.changed();
  }

  reset() { this.change(freshLook()); }

  zoomBy(factor) { this.change({ zoom: this.look.zoom * factor }); }

  /** What zoom shows one pixel of the image as one of the screen. */
  scaleOfPixels() { return this.bitmap ? Math.max(1, 1 / this.fitScale()) : 1; }

  fitScale() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.canvas;
    return Math.min(width / this.bitmap.width, height / this.bitmap.height) || 1 / ratio;
  }

  /** Where the image lies on the canvas, in the canvas's pixels. */
  place() {
    const scale = this.fitScale() * this.look.zoom;
    return {
      scale,
      left: this.canvas.width / 2 - this.look.x * this.bitmap.width * scale,
      top: this.canvas.height / 2 - this.look.y * this.bitmap.height * scale,
    };
  }

  keepInside() {
    if (!this.bitmap) return;
    const scale = this.fitScale() * this.look.zoom;
    for (const [axis, size, side] of [["x", this.bitmap.width, this.canvas.width], ["y", this.bitmap.height, this.canvas.height]]) {
      const half = side / (2 * size * scale);
      this.look[axis] = half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, this.look[axis]));
    }
  }

  draw() {
    if (this.due) return;
    this.due = requestAnimationFrame(() => {
      this.due = null;
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
    if (this.heat && this.heatOpacity > 0) {
      context.globalAlpha = this.heatOpacity;
      context.drawImage(this.heat, left, top, this.bitmap.width * scale, this.bitmap.height * scale);
      context.globalAlpha = 1;
    }
  }

  /** Window and level, as a table of 256 gray levels over what is on screen: its cost does not grow with the image. */
  applyWindow(left, top, width, height) {
    const { look, canvas } = this;
    if (look.width === FULL_WINDOW && look.level === 128 && !look.inverted) return;
    const x = Math.max(0, Math.floor(left)), y = Math.max(0, Math.floor(top));
    const right = Math.min(canvas.width, Math.ceil(left + width)), bottom = Math.min(canvas.height, Math.ceil(top + height));
    if (right <= x || bottom <= y) return;
    const low = look.level - look.width / 2;
    for (let level = 0; level < 256; level += 1) {
      let shown = Math.min(255, Math.max(0, Math.round(((level - low) / look.width) * 255)));
      if (look.inverted) shown = 255 - shown;
      this.lookup[level] = (255 << 24) | (shown << 16) | (shown << 8) | shown;
    }
    const image = this.context.getImageData(x, y, right - x, bottom - y);
    const pixels = new Uint32Array(image.data.buffer);
    for (let place = 0; place < pixels.length; place += 1) pixels[place] = this.lookup[pixels[place] & 255];
    this.context.putImageData(image, x, y);
  }

  describe() {
    const { look } = this;
    const words = this.bitmap
      ? `${this.label}. Window ${look.width}, level ${look.level}, zoom ${Math.round(100 * look.zoom)} %${look.inverted ? ", inverted" : ""}`
      : "No radiograph";
    if (this.words !== words) this.canvas.setAttribute("aria-label", (this.words = words));
  }

  pressed(event) {
    if (!this.bitmap) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const moves = this.tool() === "move" || event.shiftKey || event.button === 1 || event.button === 2;
    this.dragging = moves ? "move" : "window";
    this.canvas.dataset.dragging = this.dragging;
    if (event.button === 1) event.preventDefault();
  }

  dragged(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const dx = event.clientX - before.x, dy = event.clientY - before.y;
    if (this.pointers.size === 2) this.pinched(event);
    else if (this.dragging === "move") this.panBy(dx, dy);
    else this.change({ width: this.look.width + dx * 0.75, level: this.look.level + dy * 0.5 });
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  }

  released(event) {
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) delete this.canvas.dataset.dragging;
  }

  pinched(event) {
    const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
    const before = this.pointers.get(event.pointerId);
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    const now = { x: event.clientX, y: event.clientY };
    this.panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
    this.zoomAt(distance(now) / distance(before), { clientX: (now.x + other.x) / 2, clientY: (now.y + other.y) / 2 });
  }

  wheeled(event) {
    if (!this.bitmap) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 30 : 1;
    this.zoomAt(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), event);
  }

  /** Zooms so that what is under the pointer stays there. */
  zoomAt(factor, { clientX, clientY }) {
    if (!this.bitmap) return;
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    const away = { x: (clientX - box.left) * ratio - this.canvas.width / 2, y: (clientY - box.top) * ratio - this.canvas.height / 2 };
    const { scale } = this.place();
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.look.zoom * factor));
    const after = scale * (zoom / this.look.zoom);
    this.change({
      zoom,
      x: this.look.x + (away.x / scale - away.x / after) / this.bitmap.width,
      y: this.look.y + (away.y / scale - away.y / after) / this.bitmap.height,
    });
  }

  panBy(dx, dy) {
    const ratio = window.devicePixelRatio || 1;
    const { scale } = this.place();
    this.change({
      x: this.look.x - (dx * ratio) / scale / this.bitmap.width,
      y: this.look.y - (dy * ratio) / scale / this.bitmap.height,
    });
  }

  keyed(event) {
    if (!this.bitmap || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    if (event.shiftKey) this.change({ width: this.look.width + 8 * step[0], level: this.look.level - 4 * step[1] });
    else this.panBy(-40 * step[0], -40 * step[1]);
  }
}
