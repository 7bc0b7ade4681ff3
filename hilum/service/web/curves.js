// Line plots over the epochs, as SVG, with a legend. The caller adds the same values as a table.

import { make } from "./dom.js";

/** Line colours on the dark background: Okabe and Ito's, lightened. Lines differ by their dashes as well. */
export const COLOURS = ["#56b4e9", "#f0a830", "#3cc79a", "#e58fc0", "#e8e05a", "#ff8a65", "#9aa8ff", "#c3ccd6"];
const DASHES = ["", "7 4", "2 4", "10 4 2 4", "14 5", "5 3 2 3 2 3"];
const MARGIN = { left: 62, right: 18, top: 14, bottom: 40 };
const TICKS = 6;

export const styleOf = (place) => ({ colour: COLOURS[place % COLOURS.length], dash: DASHES[(place + Math.floor(place / COLOURS.length)) % DASHES.length] });

const round = (value) => Math.round(value * 10) / 10;

function linearTicks(low, high) {
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((size) => size >= rough) ?? unit;
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + 1e-9; tick += step) ticks.push(tick);
  const digits = Math.max(0, Math.ceil(-Math.log10(step) + (step / unit === 2.5 ? 0.5 : 0) - 1e-9));
  return { ticks, label: (tick) => tick.toFixed(digits) };
}

/** One tick per power of ten between two exponents. */
function logTicks(low, high) {
  const ticks = Array.from({ length: high - low + 1 }, (_, step) => low + step);
  return { ticks, label: (tick) => (tick >= -2 ? `${100 * 10 ** tick} %` : `1e${tick}`) };
}

/** The lowest and the highest value of the axis, in units of the scale. */
function axisRange(values, log) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  const [bottom, top] = log ? [Math.floor(low), Math.min(0, Math.ceil(high))] : [low - room, high + room];
  return bottom === top ? [bottom - 1, top] : [bottom, top];
}

/**
 * Lines: [{ name, epochs, values, colour, dash, bestEpoch }]; a ring marks the best epoch. `log` uses a logarithmic scale.
 * `level` is a horizontal line, { value, name }. Where a value is missing, the line has a gap.
 */
function plot(lines, { title, note = "", width, height = 330, range = null, log = false, level = null } = {}) {
  const toScale = log ? Math.log10 : (value) => value;
  const isDrawn = (value) => value !== null && Number.isFinite(value) && (!log || value > 0);
  const values = [...lines.flatMap((line) => line.values), ...(level ? [level.value] : [])].filter(isDrawn).map(toScale);
  if (!values.length) return make("p", { class: "empty-note" }, "No value to plot: the score is undefined here.");
  const [low, high] = range ?? axisRange(values, log);
  const epochs = [...new Set(lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
  const [first, last] = [epochs[0], epochs.at(-1)];
  const innerWidth = width - MARGIN.left - MARGIN.right, right = width - MARGIN.right, bottom = height - MARGIN.bottom;
  const x = (epoch) => round(MARGIN.left + (last === first ? 0.5 : (epoch - first) / (last - first)) * innerWidth);
  const yOfTick = (tick) => round(MARGIN.top + (1 - (tick - low) / (high - low)) * (bottom - MARGIN.top));
  const y = (value) => yOfTick(toScale(value));
  const { ticks, label } = log ? logTicks(low, high) : linearTicks(low, high);
  const every = Math.max(1, Math.ceil(ticks.length / TICKS));
  const skip = Math.max(1, Math.ceil((epochs.length * 48) / innerWidth));
  const svg = make("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title });
  for (const tick of ticks.filter((_, place) => place % every === 0)) {
    svg.append(make("line", { class: "grid", x1: MARGIN.left, x2: right, y1: yOfTick(tick), y2: yOfTick(tick) }), make("text", { x: MARGIN.left - 9, y: yOfTick(tick) + 4.5, "text-anchor": "end" }, label(tick)));
  }
  svg.append(make("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
  for (const epoch of epochs.filter((_, place) => place % skip === 0)) svg.append(make("text", { x: x(epoch), y: bottom + 20, "text-anchor": "middle" }, String(epoch)));
  svg.append(make("text", { x: right, y: height - 4, "text-anchor": "end" }, `epoch${note ? ` · ${note}` : ""}`));
  if (level) {
    const levelY = y(level.value);
    svg.append(make("line", { x1: MARGIN.left, x2: right, y1: levelY, y2: levelY, stroke: "#fff", "stroke-width": 1.5, "stroke-dasharray": "3 4" }), make("text", { x: right, y: levelY - 6, "text-anchor": "end" }, level.name));
  }
  for (const line of lines) {
    const points = line.epochs.map((epoch, place) => (line.values[place] === null || (log && line.values[place] <= 0) ? null : { epoch, value: line.values[place], x: x(epoch), y: y(line.values[place]) }));
    svg.append(linePath(line, points), ...points.filter(Boolean).map((point) => dot(line, point)));
  }
  return svg;
}

function linePath(line, points) {
  const path = points.map((point, place) => (point ? `${points[place - 1] ? "L" : "M"}${point.x} ${point.y}` : "")).join("");
  return make("path", { d: path, fill: "none", stroke: line.colour, "stroke-width": 2.4, "stroke-dasharray": line.dash || null, "stroke-linejoin": "round", "stroke-linecap": "round" });
}

function dot(line, point) {
  const isBest = point.epoch === line.bestEpoch;
  const tooltip = `${line.name}, epoch ${point.epoch}: ${Number(point.value.toPrecision(4))}${isBest ? " (best epoch)" : ""}`;
  const style = isBest ? { r: 6, fill: "#12161b", "stroke-width": 2.6 } : { r: 3.2, fill: line.colour, "stroke-width": 0 };
  return make("circle", { cx: point.x, cy: point.y, stroke: line.colour, ...style }, make("title", {}, tooltip));
}

/** As `plot`, drawn at its width on the page, and drawn again when that changes: the text keeps its size. */
export function fittedPlot(lines, options) {
  const box = make("div", { class: "plot-box" });
  let drawnWidth = 0;
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (!width || width === drawnWidth) return;
    drawnWidth = width;
    box.replaceChildren(plot(lines, { ...options, width }));
  }).observe(box);
  return box;
}

export function legend(lines) {
  return make("ul", { class: "legend" }, lines.map((line) => make("li", {}, make("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" }, make("line", { x1: 1, x2: 33, y1: 6, y2: 6, stroke: line.colour, "stroke-width": 3, "stroke-dasharray": line.dash || null })), line.name)));
}
