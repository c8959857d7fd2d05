/* Charts. <div class="chart" data-figure="id"> is drawn from <script type="application/json" id="id">: a plotly figure made
   in Python (telemetry/charts/figures.py). With data-arrays="url" its traces' values come from there and are fetched again on
   `sw:tick`; charts with the same URL share one answer:

     {"range": [start_ms, end_ms], "x": [… or a grid], "sparks": {"key": {"line": "M…", "area": "M…"}},
      "charts": {"id": {"traces": [{"y": […]}, {"x": […], "y": […]}, …, or packed], "shapes": […], "annotations": […]}}}

   (packed: unpack.js), or, for one chart alone, its "traces" (and shapes, annotations) beside "range". A trace without "x" stands
   on its chart's, else on the answer's. A chart's "scale" [low, high] is its y axis, in base units. Of charts that plotly paints
   a trace may bring its "error_y", and the answer what is new of its "axes" ({"xaxis": {"ticktext": …}, …}).
   Values are in base units; null is a gap.
   layout.meta: {"units": [[size, "W"], …] (one is picked for the axis), "legend": [{"label", "color", "shape", "traces"}],
   "painter": "uplot" (else plotly)}. An answer's "marks" (marks.js) stand on all its charts, and so do those of the addresses
   in data-marks of what holds a group. Colours are "token:s1" or "token:s1/0.17", resolved when drawn. data-sync="group" shares
   zoom and crosshair; data-every="s" sets the seconds between two fetches, data-window sends a zoomed window along as `from`
   and `to`, and the `points` of the page's address where it has any. */

import { pushQuery } from "./address.js";
import { pickUnit } from "./figure.js";
import { buildLegend, format, nearest, readout } from "./legend.js";
import { read, tell } from "./panels.js";
import { isPressed, whenReleased } from "./press.js";
import { fetchJson, query } from "./shell.js";
import { slices } from "./slices.js";
import { ask, leave, takeTurns } from "./turns.js";
import { grid, measured, unpacked } from "./unpack.js";

const MARKS_SECONDS = 60;
const PAINTERS = { uplot: () => import("./painters/fine.js"), plotly: () => import("./painters/plotted.js") };
const charts = [];
const sources = new Map();
const zooms = new Map(); // group → [start, end] in the values of the axis; milliseconds in UTC where it is a time axis
const marks = new Map(); // group → what its data-marks told

/* Crosshair and zoom of a group ------------------------------------------------------------------------------------ */

function crosshair(group, at, source = null) {
  for (const chart of charts.filter((other) => other.group === group && other.isDrawn)) {
    const known = chart.traces.find((trace, index) => trace.x.length && chart.figure.data[index].fill !== "toself");
    chart.cursor.hidden = at === null || !known;
    readout(chart, known ? at : null);
    if (chart.cursor.hidden) continue;
    const { left, top, height, pixelOf } = chart.painter.place(chart);
    const snapped = known.x[nearest(known.x, at)];
    Object.assign(chart.cursor.style, { left: `${left + pixelOf(snapped)}px`, top: `${top}px`, height: `${height}px` });
    chart.cursor.firstChild.textContent = chart !== source ? "" : chart.isTime ? new Date(snapped).toLocaleTimeString("en-GB") : format(snapped);
  }
}

const membersOf = (group) => charts.filter((chart) => chart.group === group);

/* A zoom of time stands in the address, which tells of it (below): so the browser's Back brings the one before. */
function setZoom(group, range) {
  const [first] = membersOf(group);
  if (first.isTime && first.element.dataset.sync) pushQuery({ from: range && Math.round(range[0]), to: range && Math.round(range[1]) });
  else showWindow(group, range);
}

function showWindow(group, range) {
  if (String(zooms.get(group) ?? "") === String(range ?? "")) return;
  if (range) zooms.set(group, range);
  else zooms.delete(group);
  const members = membersOf(group);
  drawAll(members);
  showZoom();
  new Set(members.map((chart) => chart.source)).forEach((source) => source?.fetchesWindow && refresh(source).catch((error) => console.warn(error)));
  fetchMarks();
}

function zoomOfAddress() {
  const params = query();
  return params.has("from") && params.has("to") ? [Number(params.get("from")), Number(params.get("to"))] : null;
}

/* What the page says of a zoom stands in [data-zoomed="group"]. */
function showZoom() {
  for (const note of document.querySelectorAll("[data-zoomed]")) note.hidden = !zooms.has(note.dataset.zoomed);
}

function listen(chart) {
  const { element, group, painter } = chart;
  element.addEventListener("pointermove", (event) => {
    const { left, width, valueAt } = painter.place(chart);
    const pixel = event.clientX - element.getBoundingClientRect().left - left;
    if (pixel < 0 || pixel > width) crosshair(group, null);
    else crosshair(group, valueAt(pixel), chart);
  });
  element.addEventListener("pointerleave", () => crosshair(group, null));
  painter.listen(chart, (range) => setZoom(group, range));
}

/* What happened meanwhile: one fetch for a group, tried again at its next turn where it fails. */
async function fetchMarks() {
  for (const box of document.querySelectorAll("[data-marks]")) {
    const group = box.querySelector(".chart[data-sync]")?.dataset.sync;
    const window_ = group && membersOf(group).find((chart) => chart.window())?.window();
    if (!window_) continue;
    try {
      const answers = await Promise.all(box.dataset.marks.split(" ").map((url) => fetchJson(windowed(url, window_))));
      const found = answers.flatMap((answer) => answer.marks);
      const isNew = JSON.stringify(found) !== JSON.stringify(marks.get(group) ?? []);
      marks.set(group, found);
      if (isNew) drawAll(membersOf(group));
    } catch (error) {
      console.warn(error);
    }
  }
}

function windowed(address, window_) {
  const url = new URL(address, location.href);
  ["from", "to"].forEach((name, index) => url.searchParams.set(name, Math.round(window_[index])));
  return url;
}

/* Drawing and fetching ---------------------------------------------------------------------------------------------- */

async function draw(chart) {
  if (!chart.traces) return;
  if (isPressed()) {
    whenReleased(() => draw(chart), chart);
    return;
  }
  chart.unit = pickUnit(chart);
  readout(chart, null);
  try {
    await chart.painter.paint(chart, zooms.get(chart.group));
  } catch (error) {
    chart.element.replaceChildren(waiting(error.message));
    throw error;
  }
  if (!chart.isDrawn) {
    chart.isDrawn = true;
    listen(chart);
    if (charts.every((other) => other.isDrawn)) requestAnimationFrame(() => setTimeout(() => performance.mark("charts-painted")));
  }
  if (chart.cursor.parentNode !== chart.element) chart.element.append(chart.cursor);
}

async function drawAll(some) {
  const slice = slices();
  for (const chart of some) {
    draw(chart);
    await slice();
  }
}

function waiting(text) {
  const note = document.createElement("p");
  note.className = "chart-wait";
  note.textContent = text;
  return note;
}

function accept(chart, answer, x) {
  const own = answer.charts ? answer.charts[chart.id] : answer;
  if (own.traces.length !== chart.figure.data.length) {
    // A device or cluster has come or gone since the page was made: the figure itself is out of date.
    if (chart.traces && !isPressed()) location.reload();
    return;
  }
  chart.traces = own.traces.map((trace) => measured({ x: own.x ?? x, ...unpacked(trace) }));
  chart.extra = own;
  chart.range = answer.range;
  chart.told = answer.marks ?? [];
  draw(chart);
}

async function refresh(source) {
  const zoom = source.fetchesWindow && zooms.get(source.charts[0].group);
  const url = zoom ? windowed(source.url, zoom) : new URL(source.url, location.href);
  if (source.fetchesWindow && query().has("points")) url.searchParams.set("points", query().get("points"));
  const answer = await fetchJson(url);
  const isOfOldZoom = () => source.fetchesWindow && zoom !== zooms.get(source.charts[0].group);
  const slice = slices();
  const x = grid(answer.x);
  for (const chart of source.charts) {
    if (isOfOldZoom()) return;
    accept(chart, answer, x);
    await slice();
  }
  for (const [key, spark] of Object.entries(answer.sparks ?? {})) {
    for (const svg of document.querySelectorAll(`[data-spark="${CSS.escape(key)}"]`)) {
      svg.querySelector("path.l").setAttribute("d", spark.line);
      svg.querySelector("path.a").setAttribute("d", spark.area);
    }
  }
  source.every = source.seconds ?? (answer.range ? Math.min(300, Math.max(5, (answer.range[1] - answer.range[0]) / 360_000)) : 5);
}

/* One fetch at a time for each source; one that fails is tried again when its time comes. */
async function onTurn(source) {
  // A page whose subject has ended takes `data-arrays` away: nothing more will come.
  source.charts = source.charts.filter(({ element }) => element.dataset.arrays);
  if (!source.charts.length) return leave(source.turn);
  try {
    await refresh(source);
    source.charts.forEach(({ element }) => read(element));
  } catch (error) {
    const why = error.status ? `the server answered ${error.status}` : "the server was not reached";
    for (const { element, traces } of source.charts) {
      if (traces) tell(element, false, why);
      else element.replaceChildren(waiting("The samples could not be read; it is tried again."));
    }
    throw error;
  }
}

function sourceOf(element) {
  const { arrays: url, every } = element.dataset;
  if (!url) return null;
  if (!sources.has(url)) {
    const seconds = every ? Number(every) : null;
    const source = { url, seconds, every: seconds ?? 5, fetchesWindow: "window" in element.dataset, charts: [] };
    source.turn = takeTurns(() => source.every, () => onTurn(source));
    sources.set(url, source);
  }
  return sources.get(url);
}

/* The size of a chart is kept: to read it after a change of the page would lay the page out at once. */
const sizeOf = ({ clientWidth: width, clientHeight: height }) => ({ width, height });
const resizing = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = charts.find(({ element }) => element === target);
    const { width, height } = sizeOf(target);
    if (chart.width === width && chart.height === height) continue;
    Object.assign(chart, { width, height });
    draw(chart);
  }
});

const painterOf = ({ layout: { meta } }) => meta?.painter ?? "plotly";

function adopt({ element, figure, ...size }) {
  const cursor = document.createElement("div");
  cursor.className = "xh";
  cursor.hidden = true;
  cursor.append(document.createElement("span"));
  const source = sourceOf(element);
  const chart = { element, ...size, figure, cursor, source, id: element.dataset.figure, isTime: figure.layout.xaxis?.type === "date", extra: {}, told: [], unit: [1, ""] };
  chart.painter = painters.get(painterOf(figure));
  chart.group = element.dataset.sync ?? chart.id;
  chart.window = () => zooms.get(chart.group) ?? chart.range ?? null;
  chart.traces = source ? null : figure.data.map(({ x, y, customdata }) => measured({ x, y: y ?? [], customdata }));
  chart.marks = () => [...chart.told, ...(marks.get(chart.group) ?? [])];
  chart.title = element.getAttribute("aria-label")?.split(",")[0] ?? "";
  chart.isFirst = !membersOf(chart.group).length;
  const zoom = zoomOfAddress();
  if (chart.isTime && element.dataset.sync && zoom) zooms.set(chart.group, zoom);
  charts.push(chart);
  source?.charts.push(chart);
  buildLegend(chart);
  if (source) element.replaceChildren(waiting("Reading the samples"));
  else draw(chart);
  resizing.observe(element);
}

const figureOf = (element) => JSON.parse(document.getElementById(element.dataset.figure).textContent);
const found = [...document.querySelectorAll(".chart[data-figure]")].map((element) => ({ element, figure: figureOf(element), ...sizeOf(element) }));
const painters = new Map();
for (const name of new Set(found.map(({ figure }) => painterOf(figure)))) painters.set(name, await PAINTERS[name]());
found.forEach(adopt);
showZoom();
const marking = takeTurns(() => MARKS_SECONDS, fetchMarks);
Promise.all([...sources.values()].map(({ turn }) => ask(turn))).then(() => ask(marking));
document.addEventListener("sw:query", ({ detail }) => {
  if (!("from" in detail || "to" in detail)) return;
  const groups = new Set(charts.filter((chart) => chart.isTime && chart.element.dataset.sync).map((chart) => chart.group));
  groups.forEach((group) => showWindow(group, zoomOfAddress()));
});
function drawAnew({ detail }) {
  charts.forEach((chart) => chart.painter.forget(chart));
  if (detail?.isAtOnce) charts.forEach((chart) => draw(chart));
  else drawAll(charts);
}
document.addEventListener("sw:theme", drawAnew);
document.addEventListener("toggle", async ({ target }) => {
  if (!target.matches("details[data-chart-table]") || !target.open) return;
  const { fillTable } = await import("./charttable.js");
  const ids = target.dataset.chartTable.split(" ");
  fillTable(target.querySelector(".tw"), charts.filter((chart) => ids.includes(chart.id)));
}, true);
