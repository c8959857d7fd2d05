/* Paints lines over time with uPlot, which takes a quarter of plotly's time: hosts and devices, whose charts hold many points.
   The figures are the same (telemetry/figures.py); bands and stacks are outlines, shapes and words are drawn around the lines. */

import { furniture, hasValues, isLone, resolved, spans, tickWords, timeTicks, yRange } from "../figure.js";
import { token } from "../shell.js";

const FONT = "Inter, system-ui, sans-serif";
const STEPS_LOW = 3; // between ticks of the y axis, at most; of a chart that is
const LOW = 130; // pixels high, or less
const STEPS = 4;
const HEADROOM = 1.06;
const LEAST_ZOOM = 4; // pixels: what is shorter is a click
const DASHES = { dash: [6, 4], dot: [2, 3] };

const isOutline = (trace) => trace.fill === "toself";

/* Axes ----------------------------------------------------------------------------------------------------------------- */

/* The y axis from 0 to a little above all that is drawn. */
function fromZero(chart) {
  let top = Math.max(0, ...spans(chart).map(([, high]) => high));
  for (const { y0, yref } of chart.figure.layout.shapes ?? []) if (yref !== "paper" && y0 > top) top = y0;
  return [0, top * HEADROOM || chart.unit[0]];
}

/* Round values of the axis' unit, few of them. */
function ySplits(chart, low, high) {
  const [size] = chart.unit;
  const least = (high - low) / size / (chart.height <= LOW ? STEPS_LOW : STEPS);
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= least) * size;
  const splits = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) splits.push(Math.abs(value) < step * 1e-9 ? 0 : value);
  return splits;
}

/* Moments on round local times. */
function xSplits(chart, start, end) {
  const { dtick, tick0 } = timeTicks([start, end], chart.width);
  const shift = new Date(start).getTimezoneOffset() * 60_000;
  const splits = [];
  for (let at = tick0 + Math.ceil((start - tick0) / dtick) * dtick; at <= end; at += dtick) splits.push(at - shift + new Date(at).getTimezoneOffset() * 60_000);
  return splits;
}

const DAYS = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MINUTES = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clockOf = (dtick) => (dtick >= 86_400_000 ? DAYS : dtick < 60_000 ? SECONDS : MINUTES);

function axes(chart) {
  const { margin, xaxis } = chart.figure.layout;
  const [stroke, grid, line] = ["text-2", "chart-grid", "chart-axis"].map(token);
  const words = (splits) => {
    if (xaxis.showticklabels === false) return splits.map(() => "");
    const clock = clockOf(timeTicks(chart.window(), chart.width).dtick);
    return splits.map((at) => clock.format(at));
  };
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
      values: (_, splits) => words(splits),
    },
    {
      ...common,
      size: margin.l,
      gap: 5,
      grid: { stroke: grid, width: 1 },
      ticks: { show: false },
      splits: (_, __, low, high) => ySplits(chart, low, high),
      values: (_, splits) => (hasValues(chart) ? splits.map((value, i) => tickWords(chart, value, i === splits.length - 1)) : splits.map(() => "")),
    },
  ];
}

/* Around the lines ------------------------------------------------------------------------------------------------------- */

/* Canvas positions of a shape's or annotation's ends. */
function position(plot, item, axis, key) {
  const { left, top, width, height } = plot.bbox;
  if (item[`${axis}ref`] !== "paper") return plot.valToPos(item[key], axis, true);
  return axis === "x" ? left + item[key] * width : top + (1 - item[key]) * height;
}

function inside({ ctx, bbox }, draw) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx);
  ctx.restore();
}

function drawOutline(plot, ctx, { x, y }, fill) {
  ctx.fillStyle = fill;
  ctx.beginPath();
  let isOpen = false;
  for (let i = 0; i < x.length; i++) {
    if (x[i] === null) isOpen = false;
    else {
      const [px, py] = [plot.valToPos(x[i], "x", true), plot.valToPos(y[i], "y", true)];
      if (isOpen) ctx.lineTo(px, py);
      else ctx.moveTo(px, py);
      isOpen = true;
    }
  }
  ctx.fill();
}

function drawShape(plot, ctx, shape) {
  const [x0, x1] = ["x0", "x1"].map((key) => position(plot, shape, "x", key));
  const [y0, y1] = ["y0", "y1"].map((key) => position(plot, shape, "y", key));
  if (shape.type === "rect") {
    ctx.fillStyle = shape.fillcolor;
    ctx.fillRect(x0, Math.min(y0, y1), x1 - x0, Math.abs(y1 - y0));
    return;
  }
  ctx.strokeStyle = shape.line.color;
  ctx.lineWidth = shape.line.width * devicePixelRatio;
  ctx.setLineDash((DASHES[shape.line.dash] ?? []).map((length) => length * devicePixelRatio));
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
  ctx.setLineDash([]);
}

function drawWords(plot, ctx, item) {
  const ratio = devicePixelRatio;
  ctx.font = `${item.font.size * ratio}px ${FONT}`;
  ctx.fillStyle = item.font.color;
  ctx.textAlign = item.xanchor ?? "center";
  ctx.textBaseline = { top: "top", bottom: "bottom" }[item.yanchor] ?? "middle";
  const lift = { top: 2, bottom: -2 }[item.yanchor] ?? 0;
  ctx.fillText(item.text, position(plot, item, "x", "x") + (item.xshift ?? 0) * ratio, position(plot, item, "y", "y") + lift * ratio);
}

function hooks(chart) {
  const isBelow = (shape) => shape.layer === "below";
  return {
    drawAxes: [
      (plot) =>
        inside(plot, (ctx) => {
          chart.furniture.shapes.filter(isBelow).forEach((shape) => drawShape(plot, ctx, shape));
          chart.figure.data.forEach((styled, i) => isOutline(styled) && drawOutline(plot, ctx, chart.traces[i], resolved(styled.fillcolor)));
        }),
    ],
    draw: [
      (plot) => {
        inside(plot, (ctx) => chart.furniture.shapes.filter((shape) => !isBelow(shape)).forEach((shape) => drawShape(plot, ctx, shape)));
        plot.ctx.save();
        chart.furniture.annotations.forEach((item) => drawWords(plot, plot.ctx, item)); // words at a limit may rise above the plot
        plot.ctx.restore();
      },
    ],
    setSelect: [
      (plot) => {
        const { left, width } = plot.select;
        plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        if (width >= LEAST_ZOOM) chart.onZoom([plot.posToVal(left, "x"), plot.posToVal(left + width, "x")]);
      },
    ],
  };
}

/* The painter ------------------------------------------------------------------------------------------------------------ */

function series(chart) {
  const lines = chart.figure.data.filter((trace) => !isOutline(trace)).map(({ line }) => resolved(line));
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

function loneOf(y) {
  const found = [];
  for (let at = 0; at < y.length; at++) if (isLone(y, at)) found.push(at);
  return found.length ? found : null;
}

function options(chart) {
  return {
    width: chart.width,
    height: chart.height,
    padding: [chart.figure.layout.margin.t, chart.figure.layout.margin.r, 0, 0],
    ms: 1,
    legend: { show: false },
    cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: false, setScale: false }, bind: { dblclick: () => null } },
    scales: { x: { time: false, auto: false, range: () => chart.window() }, y: { range: () => yRange(chart) ?? fromZero(chart) } },
    axes: axes(chart),
    series: series(chart),
    hooks: hooks(chart),
  };
}

export async function paint(chart) {
  const lines = chart.traces.filter((_, i) => !isOutline(chart.figure.data[i]));
  const data = [lines[0].x, ...lines.map(({ y }) => y)];
  chart.furniture = furniture(chart);
  const size = `${chart.width}x${chart.height} ${chart.unit}`;
  if (chart.plot && chart.plotSize === size) {
    const [min, max] = chart.window();
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
