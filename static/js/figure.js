/* What a figure is made of, for either painter: tokens become colours, marks become shapes, an axis gets its unit and range.
   A chart is {figure, traces, extra, unit, isTime, element, width, height, window(), marks()}; called by the painters. */

import { format } from "./legend.js";
import { withMarks } from "./marks.js";
import { token } from "./shell.js";

const MINUTE = 60_000;
const DAY = 1440 * MINUTE;
const STEPS = [1 / 60, 1 / 30, 1 / 12, 1 / 4, 1 / 2, 1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080, 20_160, 40_320];

/* Plotly takes milliseconds for moments and shows them in the viewer's zone. Inside (ranges, pixels) it counts wall-clock
   time as if it were UTC: these convert between the two. */

const offset = (ms) => new Date(ms).getTimezoneOffset() * MINUTE;
export const toWall = (ms) => ms - offset(ms);
export const fromWall = (ms) => ms + offset(ms + offset(ms));
export const ofAxis = (value) => (typeof value === "number" ? value : Date.parse(`${value.replace(" ", "T")}Z`));

export function resolved(value) {
  if (typeof value === "string") return value.startsWith("token:") ? token(value.slice(6)) : value;
  if (Array.isArray(value)) return value.length && typeof value[0] === "number" ? value : value.map(resolved);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner)]));
}

export function pickUnit(chart) {
  const units = chart.figure.layout.meta?.units ?? [[1, ""]];
  const greatest = Math.max(0, ...spans(chart).flat().map(Math.abs));
  const fitting = units.filter(([size]) => greatest >= 2 * size);
  return fitting.at(-1) ?? units[0];
}

/* The shapes and annotations of a chart, in base units: of its figure, of its newest values, and those of its marks. */
export function furniture(chart) {
  const of = (key) => [...(chart.figure.layout[key] ?? []), ...(chart.extra[key] ?? [])];
  return resolved(withMarks(chart, { shapes: of("shapes"), annotations: of("annotations") }));
}

/* The range of the y axis in base units; undefined where the painter chooses an axis that begins at 0. */
export function yRange(chart) {
  const { range, rangemode } = chart.figure.layout.yaxis ?? {};
  return chart.extra.scale ?? range ?? (rangemode === "tozero" ? undefined : spread(chart));
}

/* [least, greatest] of each trace that has values. */
export const spans = (chart) => chart.traces.map(({ span }) => span).filter(Boolean);
export const hasValues = (chart) => chart.traces.some(({ span }) => span);

/* A tick's words: the unit stands once, on the top one. */
export function tickWords(chart, value, isTop) {
  const [size, unit] = chart.unit;
  return format(value / size) + (isTop && unit ? ` ${unit}` : "");
}

/* The range of an axis that need not begin at 0: never so narrow that noise fills it. */
function spread(chart) {
  let [low, high] = [Infinity, -Infinity];
  const see = (value) => {
    if (value === null || value === undefined) return;
    if (value < low) low = value;
    if (value > high) high = value;
  };
  spans(chart).flat().forEach(see);
  const lines = [...(chart.figure.layout.shapes ?? []), ...(chart.extra.shapes ?? [])].filter((shape) => shape.yref !== "paper");
  for (const { y0, y1 } of lines) [y0, y1].forEach(see);
  const missing = Math.max(0, 0.12 * Math.abs(high) - (high - low)) / 2;
  const margin = 0.06 * (high - low) + missing;
  return high >= low ? [low - margin, high + margin] : undefined;
}

export function timeTicks([start, end], width) {
  const fits = (minutes) => (end - start) / (minutes * MINUTE) <= (width - 60) / (minutes >= 1440 ? 80 : 62);
  const step = (STEPS.find(fits) ?? STEPS.at(-1)) * MINUTE;
  const midnight = new Date(start).setHours(0, 0, 0, 0);
  return { dtick: step, tick0: midnight, tickformat: step < MINUTE ? "%H:%M:%S" : step < DAY ? "%H:%M" : "%-d %b" };
}
