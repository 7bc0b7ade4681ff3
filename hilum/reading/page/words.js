// How numbers and names are written.

export const plain = (name) => name.replaceAll("_", " ");

const UNIT = "\u00a0%"; // a number is not parted from its unit

/** 0.8312 is "83 %", 0.0123 "1.2 %", 0.00000031 "3e-5 %"; what is not quite all is "> 99 %" and not 100 %. */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "n/a";
  const hundredths = 100 * value;
  if (hundredths > 0 && hundredths < 0.01) return `${hundredths.toExponential(0)}${UNIT}`;
  if (hundredths > 99 && hundredths < 100) return `>\u00a099${UNIT}`;
  if (hundredths < 1) return `${hundredths.toFixed(2)}${UNIT}`;
  return `${hundredths.toFixed(hundredths < 10 ? 1 : 0)}${UNIT}`;
}

/** A probability and its threshold in words, with as many digits as tell them apart. */
export function against(probability, threshold) {
  const short = [percent(probability), percent(threshold)];
  if (short[0] !== short[1] || probability === threshold) return short;
  for (let digits = 1; digits < 5; digits += 1) {
    const longer = [probability, threshold].map((value) => `${(100 * value).toFixed(digits)}${UNIT}`);
    if (longer[0] !== longer[1]) return longer;
  }
  return short;
}

export const score = (value) => (value === null || value === undefined ? "n/a" : value.toFixed(3));

export const signed = (value) =>
  value === null || value === undefined ? "n/a" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** An element with properties, attributes and children; text is never taken for HTML. */
export function make(tag, properties = {}, ...children) {
  const svg = ["svg", "g", "path", "line", "text", "circle", "rect", "use", "polyline", "title"].includes(tag);
  const element = svg && tag !== "title" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) element.style.setProperty(key, item);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const icon = (name) => make("svg", { class: "icon", "aria-hidden": "true" }, make("use", { href: `#i-${name}` }));

/** Offers text or a Blob as a file. */
export function download(content, name, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
