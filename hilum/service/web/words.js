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

const MOST_DIGITS = 3;

/** With so many decimals: 0.57 is "57.0 %"; what they would round to nothing or to all is not. */
export function exactly(value, digits) {
  const hundredths = 100 * value;
  const written = hundredths.toFixed(digits);
  if (hundredths > 0 && Number(written) === 0) return `${hundredths.toExponential(0)}${UNIT}`;
  if (hundredths < 100 && Number(written) >= 100) return `>\u00a0${(100 - 10 ** -digits).toFixed(digits)}${UNIT}`;
  return `${written}${UNIT}`;
}

/** The fewest decimals, at least one, that tell the values of each pair apart and leave none of them at nothing. */
export function digitsFor(pairs) {
  for (let digits = 1; digits < MOST_DIGITS; digits += 1) {
    const told = pairs.every(([a, b]) => a === b || exactly(a, digits) !== exactly(b, digits));
    const seen = pairs.every(([, b]) => !(b > 0) || 100 * b >= 10 ** -digits);
    if (told && seen) return digits;
  }
  return MOST_DIGITS;
}

/** Values that are read together, with the same decimals. */
export const together = (values) => values.map((value) => exactly(value, digitsFor([values])));

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
