// Lines over epochs, as SVG with a legend; whoever calls gives the table beside them.

import { make } from "./words.js";

/** Colours of lines on the dark ground; Okabe and Ito's, lightened, and told apart by dashes as well. */
export const COLOURS = ["#56b4e9", "#f0a830", "#3cc79a", "#e58fc0", "#e8e05a", "#ff8a65", "#9aa8ff", "#c3ccd6"];
const DASHES = ["", "7 4", "2 4", "10 4 2 4", "14 5", "5 3 2 3 2 3"];

export const styleOf = (place) => ({ colour: COLOURS[place % COLOURS.length], dash: DASHES[(place + Math.floor(place / COLOURS.length)) % DASHES.length] });

const round = (value) => Math.round(value * 10) / 10;

function steps(low, high) {
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((size) => size >= rough) ?? unit;
  const marks = [];
  for (let mark = Math.ceil(low / step - 1e-9) * step; mark <= high + 1e-9; mark += step) marks.push(mark);
  return { marks, digits: Math.max(0, Math.ceil(-Math.log10(step) + (step / unit === 2.5 ? 0.5 : 0) - 1e-9)) };
}

/**
 * Lines: [{ name, epochs, values, colour, dash, mark }], `mark` an epoch that gets a ring. `log` puts the values on a
 * scale of powers of ten. `level` is a line across, { value, name }. A gap is left where there is no value.
 */
function plot(lines, { title, unit = "", wide, high = 330, range = null, log = false, level = null } = {}) {
  const shown = lines.flatMap(({ values }) => values).concat(level ? [level.value] : []).filter((value) => value !== null && Number.isFinite(value) && (!log || value > 0));
  if (!shown.length) return make("p", { class: "empty-note" }, "There is no value to draw: the score is undefined here.");
  const to = log ? Math.log10 : (value) => value;
  let [low, top] = range ?? [Math.min(...shown.map(to)), Math.max(...shown.map(to))];
  if (!range) {
    const room = (top - low || Math.abs(top) || 1) * 0.08;
    [low, top] = log ? [Math.floor(low), Math.min(0, Math.ceil(top))] : [low - room, top + room];
    if (low === top) low -= 1;
  }
  const epochs = [...new Set(lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
  const [first, last] = [epochs[0], epochs.at(-1)];
  const left = 62, right = 18, above = 14, below = 40;
  const x = (epoch) => round(left + ((last === first ? 0.5 : (epoch - first) / (last - first)) * (wide - left - right)));
  const y = (value) => round(above + (1 - (to(value) - low) / (top - low)) * (high - above - below));
  const { marks, digits } = log ? { marks: Array.from({ length: top - low + 1 }, (_, step) => low + step), digits: 0 } : steps(low, top);
  const every = Math.max(1, Math.ceil(marks.length / 6));
  const label = (mark) => (log ? (mark >= -2 ? `${100 * 10 ** mark} %` : `1e${mark}`) : mark.toFixed(digits));
  const skip = Math.max(1, Math.ceil((epochs.length * 48) / (wide - left - right)));
  const svg = make("svg", { class: "plot", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": title });
  marks.filter((_, place) => place % every === 0).forEach((mark) => {
    const place = round(above + (1 - (mark - low) / (top - low)) * (high - above - below));
    svg.append(make("line", { class: "grid", x1: left, x2: wide - right, y1: place, y2: place }), make("text", { x: left - 9, y: place + 4.5, "text-anchor": "end" }, label(mark)));
  });
  svg.append(make("line", { class: "axis", x1: left, x2: wide - right, y1: high - below, y2: high - below }));
  epochs.filter((_, place) => place % skip === 0).forEach((epoch) => svg.append(make("text", { x: x(epoch), y: high - below + 20, "text-anchor": "middle" }, String(epoch))));
  svg.append(make("text", { x: wide - right, y: high - 4, "text-anchor": "end" }, `epoch${unit ? ` · ${unit}` : ""}`));
  if (level) {
    const place = y(level.value);
    svg.append(make("line", { x1: left, x2: wide - right, y1: place, y2: place, stroke: "#fff", "stroke-width": 1.5, "stroke-dasharray": "3 4" }), make("text", { x: wide - right, y: place - 6, "text-anchor": "end" }, level.name));
  }
  for (const line of lines) {
    const points = line.epochs.map((epoch, place) => [epoch, line.values[place]]).map(([epoch, value]) => (value === null || (log && value <= 0) ? null : [x(epoch), y(value), epoch, value]));
    let open = false;
    const path = points.map((point) => {
      if (!point) { open = false; return ""; }
      const move = open ? "L" : "M";
      open = true;
      return `${move}${point[0]} ${point[1]}`;
    }).join("");
    svg.append(make("path", { d: path, fill: "none", stroke: line.colour, "stroke-width": 2.4, "stroke-dasharray": line.dash || null, "stroke-linejoin": "round", "stroke-linecap": "round" }));
    for (const point of points.filter(Boolean)) {
      const ringed = point[2] === line.mark;
      const dot = make("circle", { cx: point[0], cy: point[1], r: ringed ? 6 : 3.2, fill: ringed ? "#12161b" : line.colour, stroke: line.colour, "stroke-width": ringed ? 2.6 : 0 });
      const tip = document.createElementNS("http://www.w3.org/2000/svg", "title");
      tip.textContent = `${line.name}, epoch ${point[2]}: ${Number(point[3].toPrecision(4))}${ringed ? " (best epoch)" : ""}`;
      dot.append(tip);
      svg.append(dot);
    }
  }
  return svg;
}

/** As `plot`, drawn at the width that it has on the page, and again when that changes: its text keeps its size. */
export function fittedPlot(lines, options) {
  const box = make("div", { class: "plot-box" });
  let drawn = 0;
  new ResizeObserver(() => {
    const wide = Math.floor(box.clientWidth);
    if (!wide || wide === drawn) return;
    drawn = wide;
    box.replaceChildren(plot(lines, { ...options, wide }));
  }).observe(box);
  return box;
}

export function legend(lines) {
  return make("ul", { class: "legend" }, lines.map((line) => make("li", {}, make("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" }, make("line", { x1: 1, x2: 33, y1: 6, y2: 6, stroke: line.colour, "stroke-width": 3, "stroke-dasharray": line.dash || null })), line.name)));
}
