/* Paints lines over time, or over a number, with uPlot, which takes a quarter of plotly's time: the fleet, hosts, devices, runs and
   reference jobs, whose charts hold many points or are drawn anew each few seconds. The figures are the same (telemetry/charts/figures.py);
   bands and stacks are outlines, shapes, markers and words are drawn around the lines (around.js). */

import { furniture, resolved, yRange } from "../figure.js";
import { DASHES, around, isMarkers, isOutline } from "./around.js";
import { axes, fromZero, xRange } from "./fineaxes.js";

const LEAST_ZOOM = 4; // pixels: what is shorter is a click

const isLine = (trace) => !isOutline(trace) && !isMarkers(trace);

function series(chart) {
  const lines = chart.figure.data.filter(isLine).map(({ line }) => resolved(line));
  return [
    {},
    ...lines.map(({ color, width, dash }) => ({
      stroke: color,
      width,
      dash: DASHES[dash],
      spanGaps: false,
      points: { show: false, size: 4, fill: color, width: 0, filter: (plot, at) => loneOf(plot.data[at]) },
    })),
  ];
}

/* Values between two gaps, which a line alone does not show. What is undefined is none: only another line has a value there. */
function loneOf(y) {
  const found = [];
  let [lone, before] = [-1, null];
  for (let at = 0; at < y.length; at++) {
    const value = y[at];
    if (value === undefined) continue;
    if (value === null && lone >= 0) found.push(lone);
    lone = value !== null && before === null ? at : -1;
    before = value;
  }
  if (lone >= 0) found.push(lone);
  return found.length ? found : null;
}

function zoomed(chart, plot) {
  const { left, width } = plot.select;
  plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  if (width >= LEAST_ZOOM) chart.onZoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
}

/* The part of the axis that is drawn, for whoever waits for it. */
function tellShown({ element }, { scales }, axis) {
  if (axis === "x") element.dataset.shown = `${scales.x.min} ${scales.x.max}`;
}

function options(chart) {
  return {
    width: chart.width,
    height: chart.height,
    padding: [chart.figure.layout.margin.t, chart.figure.layout.margin.r, 0, 0],
    ms: 1,
    legend: { show: false },
    cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => null } },
    scales: { x: { time: false, auto: false, range: () => xRange(chart) }, y: { range: () => yRange(chart) ?? fromZero(chart) } },
    axes: axes(chart),
    series: series(chart),
    hooks: { ...around(chart), setScale: [(plot, axis) => tellShown(chart, plot, axis)], setSelect: [(plot) => zoomed(chart, plot)] },
  };
}

/* Columns on one x: that of all lines, else each line's own put together, where a line without a value at another's x goes on. */
function columns(chart) {
  const lines = chart.traces.filter((_, i) => isLine(chart.figure.data[i]));
  const [{ x }] = lines;
  if (lines.every((line) => line.x === x)) return [x, ...lines.map(({ y }) => y)];
  return window.uPlot.join(lines.map((line) => [line.x, line.y]));
}

export async function paint(chart) {
  const data = columns(chart);
  chart.furniture = furniture(chart);
  const size = `${chart.width}x${chart.height} ${chart.unit}`;
  if (chart.plot && chart.plotSize === size) {
    const [min, max] = xRange(chart);
    chart.plot.batch(() => {
      chart.plot.setData(data, false);
      chart.plot.setScale("x", { min, max });
    });
    return;
  }
  chart.plot?.destroy();
  chart.element.replaceChildren();
  chart.plotSize = size;
  chart.plot = new window.uPlot(options(chart), data, chart.element);
}

export function place({ plot }) {
  const { left, top, width, height } = plot.bbox;
  const ratio = devicePixelRatio;
  return {
    left: left / ratio,
    top: top / ratio,
    width: width / ratio,
    height: height / ratio,
    valueAt: (pixel) => plot.posToVal(pixel, "x"),
    pixelOf: (value) => plot.valToPos(value, "x"),
  };
}

export function listen(chart, onZoom) {
  chart.onZoom = onZoom;
  chart.element.addEventListener("dblclick", () => onZoom(null));
}

/* What was drawn with other colours is drawn anew. */
export function forget(chart) {
  chart.plotSize = "";
}
