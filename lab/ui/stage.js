// The body of gr.HTML's js_on_load(element, trigger, props, watch). The template is constant, so Gradio never
// redraws it: everything below .stage belongs to this script. Values reach the page as text or as an
// image's src, never as HTML.
// \ufe0e: a plain sign, not an emoji
const BADGES = { clean: ["✓", "clean"], backdoored: ["⚠\ufe0e", "backdoored"], unknown: ["?", "not known"] };
const STATES = { waiting: ["○", "waiting"], running: ["◐", "running"], stopped: ["■", "stopped"] };
const VERDICTS = { target: ["◎", "target"], "no target": ["–", "no target"] };
const MODES = [["x_t", "x_t", "t", ""], ["x_0", "x_0", "0", "predicted "]]; // key, key in a cell, subscript, prefix
const FILM_MS = 5000; // playing all of it
const STACK_BELOW = 640; // CSS pixels of the stage, a page of about 700
const uid = `stage-${Math.random().toString(36).slice(2)}`;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

let value = {};
let built = ""; // the columns and rows the nodes were made for
let shown = new Map(); // row key -> { row, column, nodes }
let place = 0; // index of the frame, or frames.length for the final pictures
let mode = MODES[0];
let player = 0; // timer of play

const frames = () => value.film?.frames ?? [];

// ---------------------------------------------------------------- nodes

function modeChoice(choice) {
  const [key, , subscript, prefix] = choice;
  const input = make("input", { type: "radio", name: `${uid}-mode`, value: key });
  input.checked = choice === mode;
  input.addEventListener("change", () => { mode = choice; drawPictures(); });
  const face = make("span", {}, prefix, make("i", {}, "x"), make("sub", {}, subscript));
  return make("label", { class: "stage-mode" }, input, face);
}

const columns = make("div", { class: "stage-columns" });
const empty = make("p", { class: "stage-empty" }, "Press Generate to see pictures here.");
const fill = make("span", { class: "stage-fill" });
const progressText = make("span", { class: "stage-step" });
const meter = make("div", { class: "stage-track", role: "progressbar", "aria-label": "sampling", "aria-valuemin": "0" },
  fill);
const progress = make("div", { class: "stage-progress" }, progressText, meter);
const play = make("button", { type: "button", class: "stage-play" });
const scrubber = make("input", { type: "range", class: "stage-scrubber", min: "0", step: "1", id: `${uid}-scrubber` });
const moment = make("label", { class: "stage-moment", for: scrubber.id });
const modes = make("div", { class: "stage-modes", role: "radiogroup", "aria-label": "what the film shows" },
  ...MODES.map(modeChoice));
const end = (word) => make("span", { class: "stage-end", "aria-hidden": "true" }, word);
const ends = make("div", { class: "stage-ends" }, end("noise"), moment, end("picture"));
const film = make("div", { class: "stage-film" }, play, make("div", { class: "stage-time" }, scrubber, ends), modes);
const bar = make("div", { class: "stage-bar" }, progress, film);
const spoken = make("span", { class: "stage-hidden", "aria-live": "polite" });
const root = element.querySelector(".stage");
root.append(empty, columns, bar, spoken);

function buildRow(column, row) {
  const image = make("img", { decoding: "sync", draggable: "false" }); // sync: no blank frame between pictures
  image.addEventListener("load", () => keepShape(image));
  const nodes = {
    image,
    label: make("span", { class: "stage-label" }),
    state: make("span", { class: "stage-state" }),
    note: make("span", { class: "stage-note" }),
    verdict: make("span", { class: "stage-verdict" }),
    picture: make("div", { class: "stage-picture" }, image),
  };
  shown.set(row.key, { row, column, nodes });
  const result = make("span", { class: "stage-result" }, nodes.note, nodes.verdict);
  const caption = make("figcaption", {}, nodes.label, nodes.state, result);
  return make("figure", { class: "stage-row" }, caption, nodes.picture);
}

function buildColumn(column) {
  const badge = make("span", { class: "stage-badge" });
  const name = make("h3", { class: "stage-name" });
  const slot = make("span", { class: "stage-slot" });
  setTag(badge, BADGES, column.badge);
  name.textContent = name.title = column.name;
  slot.textContent = column.title;
  const rows = column.rows.map((row) => buildRow(column, row));
  const node = make("section", { class: "stage-column" }, make("header", { class: "stage-head" }, slot, name, badge),
    ...rows);
  node.setAttribute("aria-label", `${column.title}: ${column.name}`);
  node.style.gridRow = `span ${rows.length + 1}`;
  return node;
}

function build() {
  const now = value.columns ?? [];
  const wanted = JSON.stringify(now.map((c) => [c.title, c.name, c.badge, c.rows.map((row) => row.key)]));
  if (wanted === built) return;
  built = wanted;
  shown = new Map();
  columns.replaceChildren(...now.map(buildColumn));
  columns.style.setProperty("--stage-count", String(now.length));
}

// ---------------------------------------------------------------- drawing

function setTag(node, kinds, kind) {
  const [icon, word] = kinds[kind] ?? [];
  node.hidden = !word;
  if (node.dataset.kind === kind) return;
  node.dataset.kind = kind ?? "";
  const sign = make("span", { class: "stage-icon", "aria-hidden": "true" }, icon ?? "");
  node.replaceChildren(sign, word ?? "");
}

function setText(node, text) {
  const wanted = text ?? "";
  if (node.textContent !== wanted) node.textContent = wanted;
}

function keepShape(image) {
  const aspect = value.aspect ?? image.naturalWidth / image.naturalHeight;
  if (aspect > 0) root.style.setProperty("--stage-aspect", String(aspect));
}

function drawRow({ row, nodes }) {
  setText(nodes.label, row.label);
  setText(nodes.note, row.note);
  setTag(nodes.state, STATES, row.state);
  setTag(nodes.verdict, VERDICTS, row.verdict);
  nodes.picture.dataset.state = row.state ?? "done";
  if (row.aspect) nodes.picture.style.setProperty("--stage-aspect", String(row.aspect));
}

function drawPicture({ row, column, nodes }, frame) {
  const source = frame?.cells?.[row.key]?.[mode[1]] ?? row.image ?? "";
  nodes.image.hidden = !source;
  if (source && nodes.image.getAttribute("src") !== source) nodes.image.src = source;
  const when = frame ? `${mode[3]}${mode[0]} at t = ${frame.t}` : row.state === "done" ? "final pictures" : "so far";
  nodes.image.alt = `${column.title}, ${column.name}, ${row.label}: ${when}`;
}

function drawPictures() {
  const frame = frames()[place];
  for (const cell of shown.values()) drawPicture(cell, frame);
  const total = value.film?.total;
  const text = frame ? `denoising: t = ${frame.t}${total ? ` of ${total}` : ""}` : "the final pictures";
  setText(moment, text);
  scrubber.value = String(place);
  scrubber.setAttribute("aria-valuetext", text);
  scrubber.style.setProperty("--stage-done", `${(100 * place) / Math.max(frames().length, 1)}%`);
}

function drawProgress() {
  const { step = 0, total = 1, text = "" } = value.progress ?? {};
  setText(progressText, text);
  fill.style.width = `${Math.min(100, (100 * step) / Math.max(total, 1))}%`;
  meter.setAttribute("aria-valuenow", String(step));
  meter.setAttribute("aria-valuemax", String(total));
  meter.setAttribute("aria-valuetext", text);
}

function drawBar() {
  progress.hidden = !value.progress;
  film.hidden = Boolean(value.progress) || frames().length === 0;
  bar.hidden = progress.hidden && film.hidden;
  scrubber.max = String(frames().length);
  drawProgress();
}

// ---------------------------------------------------------------- film

function drawPlay() {
  play.setAttribute("aria-label", player ? "pause the film" : "play the film");
  play.classList.toggle("stage-playing", Boolean(player));
}

function pause() {
  clearInterval(player);
  player = 0;
  drawPlay();
}

function advance() {
  if (!element.isConnected || place >= frames().length) return pause();
  place += 1;
  drawPictures();
  if (place === frames().length) pause();
}

function togglePlay() {
  if (player) return pause();
  if (place >= frames().length) place = 0;
  drawPictures();
  player = setInterval(advance, Math.max(40, FILM_MS / frames().length));
  drawPlay();
}

function scrub() {
  pause();
  place = Number(scrubber.value);
  drawPictures();
}

play.addEventListener("click", togglePlay);
scrubber.addEventListener("input", scrub);

// ---------------------------------------------------------------- values from Python

function adopt(row) {
  const cell = shown.get(row.key);
  if (cell.row.state === "running" && row.state === "done") {
    setText(spoken, `${cell.column.title}, ${row.label}: ${row.note || "done"}`);
  }
  cell.row = row;
  drawRow(cell);
}

function load() {
  const length = frames().length;
  value = props.value || {};
  if (frames().length !== length || !length) { // another film: begin at its final pictures
    pause();
    place = frames().length;
  }
  build();
  for (const column of value.columns ?? []) column.rows.forEach(adopt);
  if (value.aspect) root.style.setProperty("--stage-aspect", String(value.aspect));
  empty.hidden = shown.size > 0;
  drawBar();
  drawPictures();
}

function stack() {
  root.classList.toggle("stage-stacked", element.clientWidth < STACK_BELOW);
}

new ResizeObserver(stack).observe(element);
watch("value", load);
stack();
load();
