/* A figure as plotly draws it: tokens become colours, UTC becomes the wall clock, base units become the axis' unit.
   Called by chart.js; a chart is {figure, traces, extra, unit, isTime, element, window()}. */

import { token } from "./shell.js";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const LONE_POINT = 4; // pixels across
const STEPS = [1 / 60, 1 / 30, 1 / 12, 1 / 4, 1 / 2, 1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 40_320];

/* Plotly takes milliseconds for moments and shows them in the viewer's zone. Inside (ranges, pixels) it counts wall-clock
   time as if it were UTC: these convert between the two. */

const offset = (ms) => new Date(ms).getTimezoneOffset() * MINUTE;
export const toWall = (ms) => ms - offset(ms);
export const fromWall = (ms) => ms + offset(ms + offset(ms));
export const ofAxis = (value) => (typeof value === "number" ? value : Date.parse(`${value.replace(" ", "T")}Z`));

function resolved(value) {
  if (typeof value === "string") return value.startsWith("token:") ? token(value.slice(6)) : value;
  if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map(resolved);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner)]));
}

export function pickUnit(chart) {
  const units = chart.figure.layout.meta?.units ?? [[1, ""]];
  let greatest = 0;
  for (const trace of chart.traces) for (const y of trace.y ?? []) if (y !== null) greatest = Math.max(greatest, Math.abs(y));
  const fitting = units.filter(([size]) => greatest >= 2 * size);
  return fitting.at(-1) ?? units[0];
}

/* A line alone does not show a value between two gaps: it gets a marker. */
function lonePoints(styled, y) {
  if (styled.mode !== "lines" || styled.fill === "toself") return {};
  const isKnown = (at) => (y[at] ?? null) !== null;
  const sizes = y.map((_, at) => (isKnown(at) && !isKnown(at - 1) && !isKnown(at + 1) ? LONE_POINT : 0));
  return sizes.some(Boolean) ? { mode: "lines+markers", marker: { size: sizes, opacity: 1, line: { width: 0 } } } : {};
}

export function drawnTraces(chart) {
  return chart.figure.data.map((styled, index) => {
    const { x, y } = chart.traces[index];
    return {
      ...resolved(styled),
      ...lonePoints(styled, y),
      x,
      y: chart.unit[0] === 1 ? y : y.map((value) => (value === null ? null : value / chart.unit[0])),
    };
  });
}

/* Shapes and annotations give their values in base units, as the traces do. */
function placed(chart, item) {
  const out = resolved(item);
  for (const key of ["y", "y0", "y1"]) if (item.yref !== "paper" && key in out) out[key] /= chart.unit[0];
  return out;
}

export function drawnLayout(chart, zoom) {
  const { meta, ...described } = chart.figure.layout;
  const layout = resolved(described);
  const window_ = chart.window();
  layout.height = chart.element.clientHeight;
  layout.shapes = [...(described.shapes ?? []), ...(chart.extra.shapes ?? [])].map((item) => placed(chart, item));
  layout.annotations = [...(described.annotations ?? []), ...(chart.extra.annotations ?? [])].map((item) => placed(chart, item));
  layout.uirevision = "live";
  layout.xaxis = { ...layout.xaxis, uirevision: String(zoom ?? "live") };
  layout.yaxis = { ...layout.yaxis };
  if (window_) layout.xaxis.range = window_;
  if (window_ && chart.isTime) Object.assign(layout.xaxis, timeTicks(window_, chart.element.clientWidth));
  if (chart.extra.scale) layout.yaxis.range = chart.extra.scale.map((y) => y / chart.unit[0]);
  else if (layout.yaxis.range) layout.yaxis.range = layout.yaxis.range.map((y) => y / chart.unit[0]);
  else if (layout.yaxis.rangemode !== "tozero") layout.yaxis.range = spread(chart, layout.shapes);
  layout.yaxis.showticklabels = chart.traces.some(({ y }) => y.some((value) => value !== null)); // no scale without values
  if (chart.unit[1]) Object.assign(layout.yaxis, { ticksuffix: ` ${chart.unit[1]}`, showticksuffix: "last" });
  return layout;
}

/* The range of an axis that need not begin at 0: never so narrow that noise fills it. */
function spread(chart, shapes) {
  const limits = shapes.filter((shape) => shape.yref !== "paper").flatMap((shape) => [shape.y0, shape.y1]);
  const values = chart.traces.flatMap(({ y }) => y.filter((value) => value !== null).map((value) => value / chart.unit[0]));
  const low = [...values, ...limits].reduce((a, b) => Math.min(a, b), Infinity);
  const high = [...values, ...limits].reduce((a, b) => Math.max(a, b), -Infinity);
  const missing = Math.max(0, 0.12 * Math.abs(high) - (high - low)) / 2;
  const margin = 0.06 * (high - low) + missing;
  return high >= low ? [low - margin, high + margin] : undefined;
}

function timeTicks([start, end], width) {
  const fits = (minutes) => (end - start) / (minutes * MINUTE) <= (width - 60) / (minutes >= 1440 ? 80 : 62);
  const step = (STEPS.find(fits) ?? STEPS.at(-1)) * MINUTE;
  const midnight = new Date(start).setHours(0, 0, 0, 0);
  return { dtick: step, tick0: midnight, tickformat: step < MINUTE ? "%H:%M:%S" : step < DAY ? "%H:%M" : "%-d %b" };
}
