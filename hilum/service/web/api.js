// Requests to the service: all requests of the pages are made here.

import { byId } from "./dom.js";

const TOKEN = "hilum-token";
const MAX_ATTEMPTS = 20;

/** An error of the service, or no answer at all (status 0). */
export class ServiceError extends Error {
  constructor(status, { code = "unknown", message = "The service gave no reason.", file = null } = {}, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, code, file, retryAfter });
  }
}

/**
 * Returns parsed JSON, a Blob (`as` is "blob") or the response itself ("response"). On 401 it asks the user for the token
 * and tries again.
 */
export async function request(address, { as = "json", ...options } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const headers = { ...(options.headers ?? {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    let response;
    try {
      response = await fetch(address, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServiceError(0, { code: "unreachable", message: "The service does not answer. Is it still running?" });
    }
    if (response.ok && as === "response") return response;
    if (response.ok) return as === "blob" ? response.blob() : response.json();
    if (response.status === 401) {
      await askForToken(Boolean(token));
      continue;
    }
    const body = await response.json().catch(() => ({}));
    throw new ServiceError(response.status, body.error, Number(response.headers.get("Retry-After")) || 0);
  }
}

/** As `request`, but repeats it while the service is busy. */
export async function requestWhenFree(address, options, whenBusy = () => {}) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await request(address, options);
    } catch (error) {
      if (error.code !== "busy" || attempt === MAX_ATTEMPTS) throw error;
      whenBusy();
      await new Promise((resume) => setTimeout(resume, 1000 * (error.retryAfter || 1) * (0.6 + 0.8 * Math.random())));
    }
  }
}

let tokenDialog = null;

function askForToken(wasWrong) {
  tokenDialog ??= new Promise((resolve) => {
    const dialog = byId("token");
    const field = dialog.querySelector("input");
    dialog.querySelector("[data-wrong]").hidden = !wasWrong;
    field.value = "";
    dialog.onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, field.value.trim());
      dialog.close();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => {
      tokenDialog = null;
      resolve();
    };
    dialog.showModal();
    field.focus();
  });
  return tokenDialog;
}
