// What the views of the page of runs have in common: what they tell, and where they go.

import { make } from "./words.js";

const at = (id) => document.getElementById(id);

export const say = (words) => { at("said").textContent = words; };

/** Shows a refusal in place of what was asked for, and says it. */
export function problemBox(error) {
  at("alarmed").textContent = error.message;
  return make("div", { class: "callout error" }, make("p", {}, make("b", {}, "That did not work"), error.message));
}

export const busy = (words) => make("p", { class: "busy" }, make("span", { class: "spinner" }), words);

/** Changes the address; `quietly` does so without a step back, and without showing the view anew. */
export function go(view, asked = {}, quietly = false) {
  const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== null && value !== "" && value !== undefined));
  const hash = `#${view}${String(query) ? `?${query}` : ""}`;
  if (quietly) history.replaceState(null, "", hash);
  else location.hash = hash;
}
