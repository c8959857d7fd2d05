/* Charts. <div class="chart" data-figure="id"> is drawn from <script type="application/json" id="id">: a plotly figure made
   in Python (telemetry/figures.py). With data-arrays="url" its traces' values come from there and are fetched again on
   `sw:tick`; charts with the same URL share one answer:

     {"range": [start_ms, end_ms], "x": […], "sparks": {"key": {"line": "M…", "area": "M…"}},
      "charts": {"id": {"traces": [{"y": […]}, {"x": […], "y": […]}, …], "shapes": […], "annotations": […]}}}

   or, for one chart alone, its "traces" (and shapes, annotations) beside "range". A trace without "x" stands on its chart's,
   else on the answer's. A chart's "scale" [low, high] is its y axis, in base units.
   Values are in base units; null is a gap.
   layout.meta: {"units": [[size, "W"], …] (one is picked for the axis), "legend": [{"label", "color", "shape", "traces"}]}.
   Colours are "token:s1" or "token:s1/0.17", resolved when drawn. data-sync="group" shares zoom and crosshair;
   data-every="s" sets the seconds between two fetches, data-window sends a zoomed window along as `from` and `to`. */

import { drawnLayout, drawnTraces, fromWall, ofAxis, pickUnit, toWall } from "./figure.js";
import { buildLegend, format, nearest, readout } from "./legend.js";
import { fetchJson, query, setQuery } from "./shell.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const charts = [];
const sources = new Map();
const zooms = new Map(); // group → [start, end] in the values of the axis; milliseconds in UTC where it is a time axis

const plotly = new Promise((resolve, reject) => {
  if (window.Plotly) resolve(window.Plotly);
  const script = document.getElementById("plotly-script");
  script.addEventListener("load", () => resolve(window.Plotly));
  script.addEventListener("error", () => reject(new Error("The chart library did not load; the newest values stand in the legends.")));
});

/* Crosshair and zoom of a group ------------------------------------------------------------------------------------ */

function crosshair(group, at, source = null) {
  for (const chart of charts.filter((other) => other.group === group && other.isDrawn)) {
    const axis = chart.element._fullLayout.xaxis;
    const plot = chart.element._fullLayout.yaxis;
    const known = chart.traces.find((trace, index) => trace.x.length && chart.figure.data[index].fill !== "toself");
    chart.cursor.hidden = at === null || !known;
    readout(chart, known ? at : null);
    if (chart.cursor.hidden) continue;
    const snapped = known.x[nearest(known.x, at)];
    const left = axis._offset + axis.c2p(chart.isTime ? toWall(snapped) : snapped);
    Object.assign(chart.cursor.style, { left: `${left}px`, top: `${plot._offset}px`, height: `${plot._length}px` });
    chart.cursor.firstChild.textContent = chart !== source ? "" : chart.isTime ? new Date(snapped).toLocaleTimeString("en-GB") : format(snapped);
  }
}

function setZoom(group, range) {
  if (range) zooms.set(group, range);
  else zooms.delete(group);
  const members = charts.filter((chart) => chart.group === group);
  if (members[0].isTime) setQuery({ from: range && Math.round(range[0]), to: range && Math.round(range[1]) });
  members.forEach(draw);
  showZoom();
  new Set(members.map((chart) => chart.source)).forEach((source) => source?.fetchesWindow && refresh(source));
}

/* What the page says of a zoom stands in [data-zoomed="group"]. */
function showZoom() {
  for (const note of document.querySelectorAll("[data-zoomed]")) note.hidden = !zooms.has(note.dataset.zoomed);
}

function listen(chart) {
  const { element, group } = chart;
  element.addEventListener("pointermove", (event) => {
    const axis = element._fullLayout.xaxis;
    const pixel = event.clientX - element.getBoundingClientRect().left - axis._offset;
    if (pixel < 0 || pixel > axis._length) crosshair(group, null);
    else crosshair(group, chart.isTime ? fromWall(axis.p2c(pixel)) : axis.p2c(pixel), chart);
  });
  element.addEventListener("pointerleave", () => crosshair(group, null));
  element.on("plotly_doubleclick", () => setZoom(group, null));
  element.on("plotly_relayout", (change) => {
    const ends = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (ends[0] !== undefined) setZoom(group, chart.isTime ? ends.map(ofAxis).map(fromWall) : ends.map(Number));
  });
}

/* Drawing and fetching ---------------------------------------------------------------------------------------------- */

async function draw(chart) {
  if (!chart.traces) return;
  chart.unit = pickUnit(chart);
  readout(chart, null);
  try {
    const library = await plotly;
    if (!chart.isDrawn) chart.element.replaceChildren();
    await library.react(chart.element, drawnTraces(chart), drawnLayout(chart, zooms.get(chart.group)), CONFIG);
  } catch (error) {
    chart.element.replaceChildren(waiting(error.message));
    throw error;
  }
  if (!chart.isDrawn) {
    chart.isDrawn = true;
    listen(chart);
  }
  chart.element.append(chart.cursor);
}

function waiting(text) {
  const note = document.createElement("p");
  note.className = "chart-wait";
  note.textContent = text;
  return note;
}

function accept(chart, answer) {
  const own = answer.charts ? answer.charts[chart.id] : answer;
  if (own.traces.length !== chart.figure.data.length) {
    // A device or cluster has come or gone since the page was made: the figure itself is out of date.
    if (chart.traces) location.reload();
    return;
  }
  chart.traces = own.traces.map((trace) => ({ x: own.x ?? answer.x, ...trace }));
  chart.extra = own;
  chart.range = answer.range;
  draw(chart);
}

async function refresh(source) {
  const url = new URL(source.url, location.href);
  const zoom = source.fetchesWindow && zooms.get(source.charts[0].group);
  if (zoom) ["from", "to"].forEach((name, index) => url.searchParams.set(name, Math.round(zoom[index])));
  const answer = await fetchJson(url);
  source.charts.forEach((chart) => accept(chart, answer));
  for (const [key, spark] of Object.entries(answer.sparks ?? {})) {
    for (const svg of document.querySelectorAll(`[data-spark="${CSS.escape(key)}"]`)) {
      svg.querySelector("path.l").setAttribute("d", spark.line);
      svg.querySelector("path.a").setAttribute("d", spark.area);
    }
  }
  source.every = source.seconds ?? (answer.range ? Math.min(300, Math.max(5, (answer.range[1] - answer.range[0]) / 360_000)) : 5);
}

/* One fetch at a time for each source; one that fails is tried again when its time comes. */
async function onTick(source) {
  // A page whose subject has ended takes `data-arrays` away: nothing more will come.
  source.charts = source.charts.filter(({ element }) => element.dataset.arrays);
  if (!source.charts.length) return;
  const now = performance.now();
  if (source.isBusy || now - source.at < source.every * 1000 - 500) return;
  source.isBusy = true;
  source.at = now;
  try {
    await refresh(source);
  } catch (error) {
    console.warn(error);
  } finally {
    source.isBusy = false;
  }
}

function sourceOf(element) {
  const { arrays: url, every } = element.dataset;
  if (!url) return null;
  if (!sources.has(url)) {
    const seconds = every ? Number(every) : null;
    sources.set(url, { url, seconds, every: seconds ?? 5, fetchesWindow: "window" in element.dataset, charts: [], at: -Infinity, isBusy: false });
  }
  return sources.get(url);
}

function adopt(element) {
  const figure = JSON.parse(document.getElementById(element.dataset.figure).textContent);
  const cursor = document.createElement("div");
  cursor.className = "xh";
  cursor.hidden = true;
  cursor.append(document.createElement("span"));
  const source = sourceOf(element);
  const chart = { element, figure, cursor, source, id: element.dataset.figure, isTime: figure.layout.xaxis?.type === "date", extra: {}, unit: [1, ""] };
  chart.group = element.dataset.sync ?? chart.id;
  chart.window = () => zooms.get(chart.group) ?? chart.range ?? null;
  chart.traces = source ? null : figure.data.map(({ x, y, customdata }) => ({ x, y, customdata }));
  const params = query();
  if (chart.isTime && element.dataset.sync && params.has("from") && params.has("to")) zooms.set(chart.group, [Number(params.get("from")), Number(params.get("to"))]);
  charts.push(chart);
  source?.charts.push(chart);
  buildLegend(chart);
  if (source) element.replaceChildren(waiting("Reading the samples"));
  else draw(chart);
}

document.querySelectorAll(".chart[data-figure]").forEach(adopt);
showZoom();
sources.forEach(onTick);
document.body.addEventListener("sw:tick", () => sources.forEach(onTick));
document.addEventListener("sw:theme", () => charts.forEach(draw));
let width = innerWidth;
addEventListener("resize", () => {
  if (Math.abs(innerWidth - width) < 40) return;
  width = innerWidth;
  charts.forEach(draw);
});
