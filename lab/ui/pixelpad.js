// The body of gr.HTML's js_on_load(element, trigger, props, watch). The template is constant, so Gradio never
// redraws it: everything below .pad belongs to this script.
const SWATCHES = [
  ["#ffffff", "white"], ["#c0c0c0", "light grey"], ["#808080", "mid grey"], ["#000000", "black"],
  ["#ff0000", "red"], ["#ffff00", "yellow"], ["#0000ff", "blue"], ["#00ff00", "green"],
];
const ERASER = "";
const BOARD_MAX = 400; // CSS pixels
const UNDO_MAX = 100;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const uid = `pad-${Math.random().toString(36).slice(2)}`;

const holder = element.querySelector(".pad");

// When Gradio shows a component anew it has forgotten every prop that the last update did not name.
function setting(name) {
  const memory = (window.padMemory ??= {});
  const mine = (memory[holder.dataset.pad] ??= { size: Number(holder.dataset.size), backdrop: "" });
  return (mine[name] = props[name] ?? mine[name]);
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

let size = 0; // pixels a side
let pixels = new Map(); // y * size + x -> "#rrggbb"
let undoable = []; // older `pixels`, newest last
let colour = "#ffffff"; // or ERASER
let brush = 1;
let cursor = { x: 0, y: 0 };
let hover = null; // the cell under a mouse
let stroke = null; // { pointer, last, before } while painting

// ---------------------------------------------------------------- nodes

function radio(group, value, title, checked, face, onPick) {
  const input = make("input", { type: "radio", name: `${uid}-${group}`, value, "aria-label": title });
  input.checked = checked;
  input.addEventListener("change", () => onPick(value));
  return make("label", { class: `pad-choice pad-${group}`, title }, input, face);
}

function swatch([hex, name]) {
  const face = make("span", { class: "pad-face" });
  face.style.background = hex;
  return radio("colour", hex, name, hex === colour, face, pickColour);
}

function customSwatch() {
  const input = make("input", { type: "color", value: "#ff8800", "aria-label": "a colour of your own" });
  const pick = () => {
    for (const other of element.querySelectorAll(".pad-colour input")) other.checked = false;
    pickColour(input.value);
  };
  input.addEventListener("input", pick);
  input.addEventListener("click", pick); // choosing the same colour again sends no input event
  return make("span", { class: "pad-custom", title: "a colour of your own" }, input);
}

function brushChoice(width) {
  const dot = make("span", { class: "pad-dot" });
  dot.style.width = dot.style.height = `${1 + 4 * width}px`;
  const title = `brush of ${width} ${width === 1 ? "pixel" : "pixels"}`;
  const face = make("span", { class: "pad-face" }, dot);
  return radio("brush", String(width), title, width === 1, face, (value) => { brush = Number(value); });
}

function action(text, onClick) {
  const button = make("button", { type: "button", class: "pad-button" }, text);
  button.addEventListener("click", onClick);
  return button;
}

const custom = customSwatch();
const eraserFace = make("span", { class: "pad-face pad-word" }, "Eraser");
const eraser = radio("colour", ERASER, "eraser", false, eraserFace, pickColour);
const colours = make("div", { class: "pad-group", role: "group", "aria-label": "colour" },
  ...SWATCHES.map(swatch), custom);
const brushes = make("div", { class: "pad-group pad-brushes", role: "group", "aria-label": "brush size" },
  ...[1, 2, 3].map(brushChoice));
const undoButton = action("Undo", undo);
const clearButton = action("Clear", clear);
const tools = make("div", { class: "pad-group" }, brushes, eraser, undoButton, clearButton);
const backdrop = make("img", { class: "pad-layer pad-backdrop", alt: "", draggable: "false" });
const painting = make("canvas", { class: "pad-layer" });
const marks = make("canvas", { class: "pad-layer" });
const board = make("div", { class: "pad-board", tabindex: "0", role: "application", "aria-describedby": `${uid}-help` },
  backdrop, painting, marks);
const count = make("span", { "aria-live": "polite" });
const place = make("span", { class: "pad-place", "aria-hidden": "true" });
const spoken = make("span", { class: "pad-hidden", "aria-live": "polite" });
const help = make("span", { class: "pad-hidden", id: `${uid}-help` },
  "Arrow keys move, space or enter paints, delete erases, control Z undoes.");
holder.append(
  make("div", { class: "pad-toolbar", role: "toolbar", "aria-label": "painting tools" }, colours, tools),
  board, make("div", { class: "pad-status" }, count, place, spoken, help));

function pickColour(value) {
  colour = value;
  custom.classList.toggle("pad-picked", !element.querySelector(".pad-colour input:checked"));
}

// ---------------------------------------------------------------- drawing

function layout() {
  const room = Math.min(element.clientWidth - 2, BOARD_MAX); // 2: the border
  if (room <= 0) return; // in a hidden tab
  const cell = Math.max(1, Math.floor(room / size)); // whole CSS pixels: every cell is the same size
  holder.style.setProperty("--pad-cell", `${cell}px`);
  holder.style.setProperty("--pad-side", `${cell * size + 2}px`);
  marks.width = marks.height = Math.round(cell * size * window.devicePixelRatio);
  drawMarks();
}

function drawPixels() {
  const context = painting.getContext("2d");
  context.clearRect(0, 0, size, size);
  for (const [at, hex] of pixels) {
    context.fillStyle = hex;
    context.fillRect(at % size, Math.floor(at / size), 1, 1);
  }
  const painted = `${pixels.size} ${pixels.size === 1 ? "pixel" : "pixels"} painted`;
  if (count.textContent !== painted) count.textContent = painted;
  undoButton.disabled = undoable.length === 0;
  clearButton.disabled = pixels.size === 0;
}

function drawMarks() {
  const context = marks.getContext("2d");
  context.clearRect(0, 0, marks.width, marks.height);
  const focused = board.matches(":focus-visible");
  if (focused) outline(context, cursor);
  if (hover && !stroke) outline(context, hover);
  const shown = hover ?? (focused ? cursor : null);
  place.textContent = shown ? `x ${shown.x}, y ${shown.y}` : "";
}

function outline(context, { x, y }) {
  const scale = marks.width / size;
  const [left, top] = [x - reach(), y - reach()].map((c) => c * scale);
  for (const [style, width] of [["#000000", 3], ["#ffffff", 1.25]]) { // seen on any colour
    context.strokeStyle = style;
    context.lineWidth = width * window.devicePixelRatio;
    context.strokeRect(left, top, brush * scale, brush * scale);
  }
}

// ---------------------------------------------------------------- painting

const reach = () => Math.floor((brush - 1) / 2); // pixels of the brush left of and above its centre
const inside = (x, y) => x >= 0 && y >= 0 && x < size && y < size;

function cellAt(event) {
  const box = painting.getBoundingClientRect();
  return {
    x: Math.floor(((event.clientX - box.left) / box.width) * size),
    y: Math.floor(((event.clientY - box.top) / box.height) * size),
  };
}

function dab(centre, hex) {
  for (let y = centre.y - reach(); y < centre.y - reach() + brush; y++) {
    for (let x = centre.x - reach(); x < centre.x - reach() + brush; x++) {
      if (!inside(x, y)) continue;
      if (hex === ERASER) pixels.delete(y * size + x);
      else pixels.set(y * size + x, hex);
    }
  }
}

function line(from, to, hex) {
  const steps = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
  for (let i = 0; i <= steps; i++) {
    const x = Math.round(from.x + ((to.x - from.x) * i) / steps);
    const y = Math.round(from.y + ((to.y - from.y) * i) / steps);
    dab({ x, y }, hex);
  }
}

const toPixel = ([at, hex]) => [at % size, Math.floor(at / size), hex];
const listed = (map) => [...map].sort((a, b) => a[0] - b[0]).map(toPixel);
const same = (a, b) => a.size === b.size && [...a].every(([at, hex]) => b.get(at) === hex);

function remember(before) {
  undoable.push(before);
  if (undoable.length > UNDO_MAX) undoable.shift();
}

function send() {
  drawPixels();
  props.value = listed(pixels);
  trigger("input");
}

function commit(before) {
  if (same(before, pixels)) return;
  remember(before);
  send();
}

function once(change) {
  const before = new Map(pixels);
  change();
  commit(before);
}

function undo() {
  if (stroke || undoable.length === 0) return;
  pixels = undoable.pop();
  send();
}

function clear() {
  once(() => { pixels = new Map(); });
}

// ---------------------------------------------------------------- pointer and keys

function startStroke(event) {
  if (event.button !== 0 || !event.isPrimary || stroke) return;
  event.preventDefault(); // no text selection, no drag of the picture
  board.focus({ preventScroll: true });
  board.setPointerCapture(event.pointerId);
  const at = cellAt(event);
  stroke = { pointer: event.pointerId, last: at, before: new Map(pixels) };
  extendStroke(at);
}

function extendStroke(at) {
  line(stroke.last, at, colour);
  stroke.last = at;
  if (inside(at.x, at.y)) cursor = at;
  drawPixels();
  drawMarks();
}

function moveStroke(event) {
  const at = cellAt(event);
  hover = event.pointerType === "touch" || !inside(at.x, at.y) ? null : at;
  if (stroke?.pointer !== event.pointerId) return drawMarks();
  const between = event.getCoalescedEvents?.() ?? []; // the corners of a fast curve
  for (const step of between.length ? between : [event]) extendStroke(cellAt(step));
}

function endStroke(event) {
  if (stroke?.pointer !== event.pointerId) return;
  const { before } = stroke;
  stroke = null;
  commit(before);
  drawMarks();
}

function moveCursor([dx, dy]) {
  const clamp = (c) => Math.min(Math.max(c, 0), size - 1);
  cursor = { x: clamp(cursor.x + dx), y: clamp(cursor.y + dy) };
  hover = null;
  drawMarks();
  spoken.textContent = `x ${cursor.x}, y ${cursor.y}, ${pixels.get(cursor.y * size + cursor.x) ?? "empty"}`;
}

function onKey(event) {
  const { key } = event;
  if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") undo();
  else if (event.ctrlKey || event.metaKey || event.altKey || stroke) return;
  else if (key in ARROWS) moveCursor(ARROWS[key]);
  else if (key === " " || key === "Enter") once(() => dab(cursor, colour));
  else if (key === "Delete" || key === "Backspace") once(() => dab(cursor, ERASER));
  else return;
  event.preventDefault();
}

board.addEventListener("pointerdown", startStroke);
board.addEventListener("pointermove", moveStroke);
board.addEventListener("pointerup", endStroke);
board.addEventListener("pointercancel", endStroke);
board.addEventListener("pointerleave", () => { hover = null; drawMarks(); });
board.addEventListener("keydown", onKey);
board.addEventListener("focus", drawMarks);
board.addEventListener("blur", drawMarks);

// ---------------------------------------------------------------- values from Python

function fromProps() {
  const listedPixels = Array.isArray(props.value) ? props.value : [];
  const kept = listedPixels.filter(([x, y]) => inside(x, y));
  return new Map(kept.map(([x, y, hex]) => [y * size + x, hex]));
}

function resize() {
  const wanted = setting("size");
  if (size === wanted) return;
  size = wanted;
  undoable = [];
  pixels = new Map();
  cursor = { x: Math.floor(size / 2), y: Math.floor(size / 2) };
  painting.width = painting.height = size;
  board.setAttribute("aria-label", `${props.label}, ${size} by ${size} pixels`);
  layout();
}

function load() {
  stroke = null;
  resize();
  const before = pixels;
  pixels = fromProps();
  if (before.size && !same(before, pixels)) remember(before); // Undo brings back what a preset replaced
  drawPixels();
  drawMarks();
}

function loadBackdrop() {
  const source = setting("backdrop");
  backdrop.hidden = !source;
  if (source) backdrop.src = source;
}

new ResizeObserver(layout).observe(element);
watch(["value", "size"], load);
watch("backdrop", loadBackdrop);
load();
loadBackdrop();
