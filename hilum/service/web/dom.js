// Page elements, downloads and the address.

const SVG_TAGS = ["svg", "path", "line", "text", "circle", "use", "title"];
const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element with properties, attributes and children; text is never parsed as HTML. */
export function make(tag, properties = {}, ...children) {
  const element = SVG_TAGS.includes(tag) ? document.createElementNS(SVG_NAMESPACE, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, item] of Object.entries(value)) element.style.setProperty(key, item);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export const icon = (name) => make("svg", { class: "icon", "aria-hidden": "true" }, make("use", { href: `#i-${name}` }));

/** Offers text or a Blob as a file. */
export function download(content, name, type) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Shows another view of the runs page: writes the view and its parameters after the # of the address. */
export function navigate(view, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== null && value !== "" && value !== undefined));
  location.hash = `#${view}${String(query) ? `?${query}` : ""}`;
}

/** A table's head: one column per heading. */
export const tableHead = (headings, properties = {}) =>
  make("thead", {}, make("tr", {}, headings.map((heading) => make("th", { scope: "col", ...properties }, heading))));

/** Text for screen readers only. */
export const hiddenText = (text) => make("span", { class: "visually-hidden" }, text);
