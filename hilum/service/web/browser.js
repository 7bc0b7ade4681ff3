// The images that a run is wrong about: each with its radiograph, heatmap, and history over the epochs.

import { ask, askPatiently } from "./api.js";
import { fittedPlot, legend, styleOf } from "./curves.js";
import { colouredHeatmap, occlusionInWords } from "./heat.js";
import { busy, go, problemBox, say } from "./telling.js";
import { Viewer, freshLook } from "./viewer.js";
import { count, icon, make, percent, plain, together } from "./words.js";

const at = (id) => document.getElementById(id);
const state = { ready: false, listed: null, shown: "", found: null, image: null, target: null };
let seen = null;

export function showImages(listed, asked) {
  const rated = listed.runs.filter((run) => run.best_epoch).map((run) => run.name);
  if (!state.ready) {
    state.ready = true;
    at("images-run").replaceChildren(...rated.map((name) => make("option", { value: name }, name)));
    const changed = () => go("images", { run: at("images-run").value, target: at("images-target").value, kind: at("images-kind").value });
    at("images-run").addEventListener("change", () => { at("images-target").value = ""; changed(); });
    for (const id of ["images-target", "images-kind"]) at(id).addEventListener("change", changed);
  }
  if (!rated.length) {
    at("gallery").replaceChildren(make("p", { class: "empty-note card" }, "No run has an epoch that has ended."));
    return;
  }
  const run = rated.includes(asked.get("run")) ? asked.get("run") : (listed.best ?? rated[0]);
  const { targets } = listed.runs.find((one) => one.name === run);
  const target = targets.includes(asked.get("target")) ? asked.get("target") : "";
  const kind = asked.get("kind") === "false-alarm" ? "false-alarm" : "missed";
  at("images-run").value = run;
  at("images-target").replaceChildren(make("option", { value: "" }, "all, in turn"), ...targets.map((name) => make("option", { value: name, selected: name === target }, plain(name))));
  at("images-kind").value = kind;
  list(run, target, kind);
}

const address = (run, rest) => `/v1/runs/${encodeURIComponent(run)}/${rest}`;

async function list(run, target, kind) {
  const key = [run, target, kind].join("\n");
  if (state.shown === key) return;
  state.shown = key;
  closeImage();
  at("images-count").textContent = "";
  at("gallery").replaceChildren(busy("Looking for its mistakes …"));
  try {
    const found = await ask(address(run, `mistakes?kind=${kind}${target ? `&target=${encodeURIComponent(target)}` : ""}`));
    if (state.shown !== key) return;
    state.found = found;
    draw(run, kind);
  } catch (error) {
    if (state.shown !== key) return;
    state.shown = "";
    at("gallery").replaceChildren(problemBox(error));
  }
}

// A thumbnail is fetched when it comes into sight.
const sight = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    sight.unobserve(target);
    askPatiently(target.dataset.picture, { as: "blob" })
      .then((blob) => {
        const source = URL.createObjectURL(blob);
        target.replaceChildren(make("img", { src: source, alt: "", onload: () => URL.revokeObjectURL(source) }));
      })
      .catch(() => target.replaceChildren("radiograph not at hand"));
  }
}, { rootMargin: "200px" });

function draw(run, kind) {
  const { mistakes, count: total, images_here: here, epoch } = state.found;
  const what = kind === "missed" ? "missed" : "called by mistake";
  at("images-count").textContent = `${count(total, "finding")} ${what} in epoch ${epoch}${total > mistakes.length ? `; the ${mistakes.length} worst are shown` : ""}`;
  if (!mistakes.length) {
    at("gallery").replaceChildren(make("p", { class: "empty-note card" }, kind === "missed" ? "Nothing was missed at these thresholds. The false alarms say what that cost." : "There is no false alarm at these thresholds."));
    return;
  }
  const cards = mistakes.map((mistake) => {
    const film = make("span", { class: "film", dataset: { picture: address(run, `images/${mistake.image_id}/pixels?side=320`) } }, here ? "" : "radiograph not at hand");
    if (here) sight.observe(film);
    const card = make("button", { type: "button", dataset: { image: String(mistake.image_id), target: mistake.target }, onclick: () => openImage(run, mistake, card) },
      film, make("b", {}, plain(mistake.target)), make("span", { class: "soft" }, together([mistake.probability, mistake.threshold]).join(kind === "missed" ? " < " : " ≥ ")), make("span", { class: "soft" }, mistake.file ?? `image ${mistake.image_id}`));
    return make("li", {}, card);
  });
  at("gallery").replaceChildren(here ? "" : make("div", { class: "callout flag" }, icon("warn"), make("p", {}, "The data set is not where the run has read it, so there are no radiographs and no heatmaps here.")), make("ul", { class: "gallery" }, cards));
}

function closeImage() {
  at("detail").hidden = true;
  document.querySelector(".browser").classList.remove("open");
  at("gallery").querySelector("[aria-current]")?.removeAttribute("aria-current");
  state.image = null;
}

async function openImage(run, mistake, card) {
  at("gallery").querySelector("[aria-current]")?.removeAttribute("aria-current");
  card.setAttribute("aria-current", "true");
  document.querySelector(".browser").classList.add("open");
  at("detail").hidden = false;
  at("detail").replaceChildren(busy("Fetching the image and its history …"));
  const turn = (state.image = { run, id: mistake.image_id });
  try {
    const about = await ask(address(run, `images/${mistake.image_id}`));
    if (state.image !== turn) return;
    turn.about = about;
    state.target = mistake.target;
    drawImage(turn, card);
    at("detail").focus({ preventScroll: true });
    if (matchMedia("(max-width: 1000px)").matches) at("detail").scrollIntoView({ block: "start" });
    say(`Image ${mistake.image_id}: ${plain(mistake.target)}, ${percent(mistake.probability)}, threshold ${percent(mistake.threshold)}.`);
  } catch (error) {
    if (state.image === turn) at("detail").replaceChildren(problemBox(error));
  }
}

function drawImage(turn, card) {
  const { about } = turn;
  seen = new Viewer({ changed: () => {} });
  const center = make("div", { class: "center" }, make("span", { class: "spinner" }));
  const heatBox = make("input", { type: "checkbox", id: "detail-heat", onchange: () => heat(turn) });
  const opacity = make("input", { type: "range", min: "0", max: "100", value: "45", "aria-label": "Opacity of the heatmap", oninput: () => seen.showHeat(seen.heat, Number(opacity.value) / 100) });
  Object.assign(turn, { center, heatBox, opacity, heats: new Map(), history: make("div", {}), rows: make("tbody", {}), note: make("p", { class: "soft" }) });
  const tools = make("div", { class: "film-tools" },
    make("label", { class: "check" }, heatBox, "heatmap"), opacity, make("span", { class: "grow" }),
    make("button", { type: "button", "aria-label": "Zoom out", onclick: () => seen.zoomBy(0.8) }, icon("minus")), make("button", { type: "button", "aria-label": "Zoom in", onclick: () => seen.zoomBy(1.25) }, icon("plus")),
    make("button", { type: "button", "aria-label": "Invert", onclick: () => seen.change({ inverted: !seen.look.inverted }) }, icon("invert")), make("button", { type: "button", "aria-label": "Reset the view", onclick: () => seen.reset() }, icon("reset")));
  const facts = Object.entries(about.about).map(([name, value]) => `${name.toLowerCase()} ${value}`).join(" · ");
  at("detail").replaceChildren(
    make("div", { class: "detail-head" }, make("div", {}, make("h2", {}, `Image ${about.image_id}`), make("p", {}, facts)), make("button", { type: "button", class: "quiet", "aria-label": "Close the image", onclick: () => { closeImage(); card.focus(); } }, icon("close"))),
    make("div", { class: "film-view" }, seen.element, center), tools,
    make("div", { class: "detail-body" }, turn.note, turn.history,
      make("section", {}, make("h3", {}, "All findings"), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ["Finding", "Label", "Probability", "Threshold", ""].map((heading) => make("th", { scope: "col" }, heading || make("span", { class: "unseen" }, "Outcome"))))), turn.rows)))),
  );
  chooseTarget(turn, state.target);
  askPatiently(address(turn.run, `images/${turn.id}/pixels`), { as: "blob" })
    .then(createImageBitmap)
    .then((bitmap) => {
      center.hidden = true;
      seen.show(bitmap, freshLook(), `Radiograph of image ${turn.id}`);
    })
    .catch((error) => center.replaceChildren(make("p", {}, error.message)));
}

function chooseTarget(turn, target) {
  state.target = target;
  const finding = turn.about.findings.find((one) => one.target === target);
  const line = { name: "probability", epochs: turn.about.epochs, values: finding.history, mark: turn.about.best_epoch, ...styleOf(0) };
  const small = finding.threshold < 0.02;
  const title = `${plain(target)} in image ${turn.id}: its probability over the epochs, threshold ${percent(finding.threshold)}`;
  turn.history.replaceChildren(
    make("h3", {}, `${plain(target)}, epoch by epoch`),
    fittedPlot([line], { title, high: 230, range: small ? null : [0, 1], log: small, level: { value: finding.threshold, name: `threshold ${percent(finding.threshold)}` } }),
    make("details", {}, make("summary", {}, "The same as a table"), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ["Epoch", "Probability"].map((heading) => make("th", { scope: "col" }, heading)))), make("tbody", {}, line.epochs.map((epoch, place) => make("tr", {}, make("td", {}, `${epoch}${epoch === line.mark ? " (best)" : ""}`), make("td", {}, percent(line.values[place])))))))),
  );
  turn.rows.replaceChildren(...turn.about.findings.map((one) => {
    const label = one.label === null ? "unknown" : one.label === 1 ? "positive" : "negative";
    const outcome = one.label === null ? "" : one.label === 1 ? (one.suggested ? "found" : "missed") : one.suggested ? "false alarm" : "";
    return make("tr", { class: one.target === target ? "on" : "" },
      make("td", {}, make("button", { type: "button", "aria-pressed": String(one.target === target), onclick: () => { chooseTarget(turn, one.target); turn.rows.querySelector("[aria-pressed=true]").focus({ preventScroll: true }); } }, plain(one.target))),
      make("td", {}, label), together([one.probability, one.threshold]).map((words) => make("td", {}, words)), make("td", {}, make("span", { class: ["missed", "false alarm"].includes(outcome) ? "wrong" : "soft" }, outcome)));
  }));
  heat(turn);
}

async function heat(turn) {
  const { target } = state;
  seen.showHeat(null, 0);
  turn.note.textContent = "";
  turn.note.hidden = true;
  if (!turn.heatBox.checked) return;
  turn.note.hidden = false;
  turn.note.textContent = "The heatmap is on its way …";
  try {
    if (!turn.heats.has(target)) turn.heats.set(target, await colouredHeatmap(await askPatiently(address(turn.run, `images/${turn.id}/heatmap?target=${encodeURIComponent(target)}`), { as: "response" })));
    if (state.image !== turn || state.target !== target) return;
    seen.showHeat(turn.heats.get(target), Number(turn.opacity.value) / 100);
    turn.note.textContent = turn.heats.get(target).isCold ? `Nothing in the image speaks for ${plain(target)}.` : `What spoke for ${plain(target)}: where the model looked, not where a lesion is. ${occlusionInWords(turn.heats.get(target))}`;
  } catch (error) {
    turn.note.textContent = error.message;
  }
}

document.addEventListener("keydown", (event) => {
  if (!state.image || !seen || event.ctrlKey || event.metaKey || event.altKey || event.target !== seen.canvas) return;
  const act = { "+": () => seen.zoomBy(1.25), "=": () => seen.zoomBy(1.25), "-": () => seen.zoomBy(0.8), 0: () => seen.change({ zoom: 1, x: 0.5, y: 0.5 }), i: () => seen.change({ inverted: !seen.look.inverted }), r: () => seen.reset() }[event.key];
  if (act) { event.preventDefault(); act(); }
});
