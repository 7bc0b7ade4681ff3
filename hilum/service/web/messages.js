// Messages to the user: announced to screen readers, or shown in a box.

import { byId, make } from "./dom.js";

/** Announces a text to screen readers when they are idle. */
export const announce = (text) => { byId("status").textContent = text; };

/** Announces a text to screen readers at once. */
export const showAlert = (text) => { byId("alert").textContent = text; };

/** A box with an error's message, which is announced as well. */
export function errorBox(error) {
  showAlert(error.message);
  return make("div", { class: "callout error" }, make("p", {}, make("b", {}, "That did not work"), error.message));
}

export const busy = (text) => make("p", { class: "busy" }, make("span", { class: "spinner" }), text);
