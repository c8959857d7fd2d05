/* The axes of a chart that uPlot paints (fine.js): their ranges, round ticks and words. */

import { format } from "../legend.js";
import { hasValues, spans, tickWords, timeTicks } from "../figure.js";
import { token } from "../shell.js";

export const FONT = "Inter, system-ui, sans-serif";
const STEPS_LOW = 3.5; // between ticks of the y axis, at most; of a chart that is
const LOW = 130; // pixels high, or less
const STEPS = 4;
const ENOUGH = 8;
const FINER = 1.6;
const HEADROOM = 1.06;
const OVER_EDGE = 4; // pixels from the right end within which a moment's words would be cut
const DAY = 86_400_000;
const NUMBER_PIXELS = 80; // of the x axis, where it is no time: a tick in so many

/* What is shown of the x axis: the window, else all that there is; of one x alone a little on both sides. */
export function xRange(chart) {
  const found = chart.window();
  if (found) return found;
  const [low, high] = chart.traces.reduce(([low, high], { x }) => [Math.min(low, x[0] ?? low), Math.max(high, x.at(-1) ?? high)], [Infinity, -Infinity]);
  if (low === high) return [low - 0.5, high + 0.5];
  return high > low ? [low, high] : [0, 1];
}

/* The y axis from 0 to a little above all that is drawn. */
export function fromZero(chart) {
  let top = Math.max(0, ...spans(chart).map(([, high]) => high));
  for (const { y0, yref } of chart.figure.layout.shapes ?? []) if (yref !== "paper" && y0 > top) top = y0;
  return [0, top * HEADROOM || chart.unit[0]];
}

/* Round values of a unit of `size`, about `most` steps at most: one value alone would tell no scale. */
function roundSplits(low, high, size, most) {
  const least = (high - low) / size / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= least) * size;
  const splits = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) splits.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return splits.length > 1 || most > ENOUGH ? splits : roundSplits(low, high, size, most * FINER);
}

const ySplits = (chart, low, high) => roundSplits(low, high, chart.unit[0], chart.height <= LOW ? STEPS_LOW : STEPS);

/* Moments on round local times. */
function timeSplits(chart, start, end) {
  const { dtick, tick0 } = timeTicks([start, end], chart.width);
  const shift = new Date(start).getTimezoneOffset() * 60_000;
  const splits = [];
  for (let at = tick0 + Math.ceil((start - tick0) / dtick) * dtick; at <= end; at += dtick) splits.push(at - shift + new Date(at).getTimezoneOffset() * 60_000);
  return splits;
}

const xSplits = (chart, start, end) => (chart.isTime ? timeSplits(chart, start, end) : roundSplits(start, end, 1, Math.max(1, chart.width / NUMBER_PIXELS)));

const clocks = new Map();
const CLOCKS = {
  days: { day: "numeric", month: "short" },
  minutes: { hour: "2-digit", minute: "2-digit" },
  seconds: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
};

/* Made when it is first asked for: each takes the browser milliseconds. */
function clockOf(dtick) {
  const name = dtick >= DAY ? "days" : dtick < 60_000 ? "seconds" : "minutes";
  if (!clocks.has(name)) clocks.set(name, new Intl.DateTimeFormat("en-GB", CLOCKS[name]));
  return clocks.get(name);
}

const isMidnight = (at) => new Date(at).setHours(0, 0, 0, 0) === at;

function xWords(chart, splits) {
  if (chart.figure.layout.xaxis.showticklabels === false) return splits.map(() => "");
  if (!chart.isTime) return splits.map(format);
  const [start, end] = xRange(chart);
  const { dtick } = timeTicks([start, end], chart.width);
  const clock = clockOf(dtick);
  const isLong = dtick < DAY && end - start > DAY; // which day it is must be seen
  const room = ((end - start) / chart.width) * (dtick < 60_000 ? OVER_EDGE * 3 : OVER_EDGE); // seconds make words long
  return splits.map((at) => (at > end - room ? "" : (isLong && isMidnight(at) ? clockOf(DAY) : clock).format(at)));
}

const yWords = (chart, splits) => splits.map((value, i) => (hasValues(chart) ? tickWords(chart, value, i === splits.length - 1) : ""));

export function axes(chart) {
  const { margin } = chart.figure.layout;
  const [stroke, grid, line] = ["text-2", "chart-grid", "chart-axis"].map(token);
  const common = { stroke, font: `11px ${FONT}`, border: { show: false } };
  return [
    {
      ...common,
      size: margin.b,
      gap: 2,
      grid: { show: false },
      border: { show: true, stroke: line, width: 1 },
      ticks: { show: true, stroke: line, width: 1, size: 3 },
      splits: (_, __, start, end) => xSplits(chart, start, end),
      values: (_, splits) => xWords(chart, splits),
    },
    {
      ...common,
      size: margin.l,
      gap: 5,
      grid: { stroke: grid, width: 1 },
      ticks: { show: false },
      splits: (_, __, low, high) => ySplits(chart, low, high),
      values: (_, splits) => yWords(chart, splits),
    },
  ];
}
