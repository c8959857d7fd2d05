/* Paints charts with plotly: what is not lines over time, and pages with few points. See painters/fine.js for the other. */

import { furniture, hasValues, ofAxis, resolved, timeTicks, toWall, fromWall, yRange } from "../figure.js";

const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false };
const LONE_POINT = 4; // pixels across
const AROUND_MS = 1_800_000; // at least, on both sides of all moments: one alone would tell no time

const library = new Promise((resolve, reject) => {
  const script = document.getElementById("plotly-script");
  if (window.Plotly || !script) resolve(window.Plotly);
  script?.addEventListener("load", () => resolve(window.Plotly));
  script?.addEventListener("error", () => reject(new Error("The chart library did not load; the newest values stand in the legends.")));
});
library.catch(() => {}); // whoever paints hears of it

/* The time that points at odd moments take, with some room; null where there is none. */
function allMoments({ isTime, traces }) {
  const moments = isTime ? traces.flatMap(({ x }) => x) : [];
  if (!moments.length) return null;
  const [low, high] = [Math.min(...moments), Math.max(...moments)];
  const room = Math.max(AROUND_MS, (high - low) * 0.03);
  return [low - room, high + room];
}

const isLone = (y, at) => (y[at] ?? null) !== null && (y[at - 1] ?? null) === null && (y[at + 1] ?? null) === null;

/* A line alone does not show a value between two gaps: it gets a marker. */
function lonePoints(styled, y) {
  if (styled.mode !== "lines" || styled.fill === "toself") return {};
  const sizes = y.map((_, at) => (isLone(y, at) ? LONE_POINT : 0));
  return sizes.some(Boolean) ? { mode: "lines+markers", marker: { size: sizes, opacity: 1, line: { width: 0 } } } : {};
}

/* The ends of a value's interval come with it, the look of their bars stands in the figure. */
const errors = ({ error_y: bars }, { error_y: ends }) => (ends ? { error_y: { ...resolved(bars), ...ends } } : {});

function traces(chart) {
  return chart.figure.data.map((styled, index) => {
    const { x, y } = chart.traces[index];
    return {
      ...resolved(styled),
      ...lonePoints(styled, y),
      ...errors(styled, chart.traces[index]),
      x,
      y: chart.unit[0] === 1 ? y : y.map((value) => (value === null ? null : value / chart.unit[0])),
    };
  });
}

/* Shapes and annotations give their values in base units, as the traces do. */
function placed(chart, item) {
  const out = { ...item };
  for (const key of ["y", "y0", "y1"]) if (item.yref !== "paper" && key in out) out[key] /= chart.unit[0];
  return out;
}

function layoutOf(chart, zoom) {
  const { meta, ...described } = chart.figure.layout;
  const layout = resolved(described);
  const window_ = chart.window() ?? allMoments(chart);
  const { shapes, annotations } = furniture(chart);
  layout.height = chart.height;
  layout.shapes = shapes.map((item) => placed(chart, item));
  layout.annotations = annotations.map((item) => placed(chart, item));
  layout.uirevision = "live";
  layout.xaxis = { ...layout.xaxis, ...chart.extra.axes?.xaxis, uirevision: String(zoom ?? "live") };
  layout.yaxis = { ...layout.yaxis, ...chart.extra.axes?.yaxis };
  if (window_) layout.xaxis.range = window_;
  if (window_ && chart.isTime) Object.assign(layout.xaxis, timeTicks(window_, chart.width));
  const range = yRange(chart);
  if (range) layout.yaxis.range = range.map((y) => y / chart.unit[0]);
  layout.yaxis.showticklabels = hasValues(chart); // no scale without values
  if (chart.unit[1]) Object.assign(layout.yaxis, { ticksuffix: ` ${chart.unit[1]}`, showticksuffix: "last" });
  return layout;
}

export async function paint(chart, zoom) {
  const plotly = await library;
  if (!chart.isDrawn) chart.element.replaceChildren();
  await plotly.react(chart.element, traces(chart), layoutOf(chart, zoom), CONFIG);
}

/* Where the plot stands in its element, and its x axis: pixels of the plot ↔ values, UTC where it is time. */
export function place(chart) {
  const { xaxis, yaxis } = chart.element._fullLayout;
  return {
    left: xaxis._offset,
    width: xaxis._length,
    top: yaxis._offset,
    height: yaxis._length,
    valueAt: (pixel) => (chart.isTime ? fromWall(xaxis.p2c(pixel)) : xaxis.p2c(pixel)),
    pixelOf: (value) => xaxis.c2p(chart.isTime ? toWall(value) : value),
  };
}

export function listen(chart, onZoom) {
  chart.element.on("plotly_doubleclick", () => onZoom(null));
  chart.element.on("plotly_relayout", (change) => {
    const ends = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    if (ends[0] !== undefined) onZoom(chart.isTime ? ends.map(ofAxis).map(fromWall) : ends.map(Number));
  });
}

/* Colours and sizes are read anew with each painting. */
export function forget() {}
