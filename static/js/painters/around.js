/* What a chart that uPlot paints (fine.js) has beside its lines: outlines of bands and stacks and spans below them; limits,
   markers and words above. */

import { resolved } from "../figure.js";
import { nearest } from "../legend.js";
import { FONT } from "./fineaxes.js";

export const DASHES = { dash: [6, 4], dot: [2, 3], dashdot: [7, 3, 2, 3] };

export const isOutline = (trace) => trace.fill === "toself";
export const isMarkers = (trace) => trace.mode === "markers";
const NAME = { size: 10.5, room: 15, places: [0.9, 0.75, 0.6, 0.45, 0.3, 0.15] }; // room in pixels of height; places in parts of the width
const isBelow = (shape) => shape.layer === "below";

/* Values of an axis → pixels of the canvas, for many of them: uPlot's own way takes a few calls for each. */
function pixelsOf(plot, axis) {
  const { min, max } = plot.scales[axis];
  const [from, to] = [plot.valToPos(min, axis, true), plot.valToPos(max, axis, true)];
  const each = (to - from) / (max - min);
  return (value) => from + (value - min) * each;
}

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
  const [toX, toY] = [pixelsOf(plot, "x"), pixelsOf(plot, "y")];
  ctx.fillStyle = fill;
  ctx.beginPath();
  let isOpen = false;
  for (let i = 0; i < x.length; i++) {
    if (x[i] === null) isOpen = false;
    else {
      if (isOpen) ctx.lineTo(toX(x[i]), toY(y[i]));
      else ctx.moveTo(toX(x[i]), toY(y[i]));
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

/* A triangle at each value; one at the edge of the plot may rise above it. */
function drawTriangles(plot, ctx, { x, y }, { size, color }) {
  const radius = (size / 2) * devicePixelRatio;
  const { left, width } = plot.bbox;
  const [toX, toY] = [pixelsOf(plot, "x"), pixelsOf(plot, "y")];
  ctx.fillStyle = color;
  ctx.beginPath();
  for (let i = 0; i < x.length; i++) {
    if (y[i] === null) continue;
    const [px, py] = [toX(x[i]), toY(y[i])];
    if (px < left || px > left + width) continue;
    ctx.moveTo(px, py - radius);
    ctx.lineTo(px + radius, py + radius * 0.8);
    ctx.lineTo(px - radius, py + radius * 0.8);
    ctx.closePath();
  }
  ctx.fill();
}

/* Behind words that lie on the plot, so that no line runs through them. */
function drawGround(ctx, { text, bgcolor }, x, y) {
  const ink = ctx.fillStyle;
  const { actualBoundingBoxLeft: left, actualBoundingBoxRight: right, actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } = ctx.measureText(text);
  ctx.fillStyle = bgcolor;
  ctx.fillRect(x - left - 2, y - up - 1, left + right + 4, up + down + 2);
  ctx.fillStyle = ink;
}

function drawText(ctx, item, x, y) {
  ctx.font = `${item.font.size * devicePixelRatio}px ${FONT}`;
  ctx.fillStyle = item.font.color;
  ctx.textAlign = item.xanchor ?? "center";
  ctx.textBaseline = { top: "top", bottom: "bottom" }[item.yanchor] ?? "middle";
  if (item.bgcolor) drawGround(ctx, item, x, y);
  ctx.fillText(item.text, x, y);
}

function drawWords(plot, ctx, item) {
  const ratio = devicePixelRatio;
  const lift = ({ top: 2, bottom: -2 }[item.yanchor] ?? 0) - (item.yshift ?? 0);
  const [x, y] = [position(plot, item, "x", "x") + (item.xshift ?? 0) * ratio, position(plot, item, "y", "y") + lift * ratio];
  drawText(ctx, item, x, y);
}

/* The names of stacked bands stand in them where they are high enough: colour alone would not tell them apart. */
function drawNames(chart, plot, ctx) {
  const bands = (chart.figure.layout.meta?.legend ?? []).filter(({ shape }) => shape === "box");
  if (bands.length < 2) return;
  const { min, max } = plot.scales.x;
  const [toX, toY] = [pixelsOf(plot, "x"), pixelsOf(plot, "y")];
  const tops = bands.map(({ traces: [line] }) => chart.traces[line]);
  bands.forEach(({ label: text }, i) => {
    let best = { height: NAME.room * devicePixelRatio };
    for (const place of NAME.places) {
      const at = nearest(tops[i].x, min + place * (max - min));
      const [high, low] = [tops[i].y[at], i ? tops[i - 1].y[at] : 0].map((value) => (value === null ? NaN : toY(value)));
      if (low - high >= best.height) best = { height: low - high + 1, x: toX(tops[i].x[at]), y: (high + low) / 2 };
    }
    if (!best.x) return;
    const item = { text, font: { size: NAME.size, color: "token:text" }, bgcolor: "token:surface/0.7" };
    drawText(ctx, resolved(item), best.x, best.y);
  });
}

function drawBelow(chart, plot, ctx) {
  chart.furniture.shapes.filter(isBelow).forEach((shape) => drawShape(plot, ctx, shape));
  chart.figure.data.forEach((styled, i) => isOutline(styled) && drawOutline(plot, ctx, chart.traces[i], resolved(styled.fillcolor)));
}

function drawAbove(chart, plot) {
  inside(plot, (ctx) => chart.furniture.shapes.filter((shape) => !isBelow(shape)).forEach((shape) => drawShape(plot, ctx, shape)));
  plot.ctx.save();
  inside(plot, (ctx) => drawNames(chart, plot, ctx));
  chart.figure.data.forEach((styled, i) => isMarkers(styled) && drawTriangles(plot, plot.ctx, chart.traces[i], resolved(styled.marker)));
  chart.furniture.annotations.forEach((item) => drawWords(plot, plot.ctx, item)); // words at a limit may rise above the plot
  plot.ctx.restore();
}

export const around = (chart) => ({
  drawAxes: [(plot) => inside(plot, (ctx) => drawBelow(chart, plot, ctx))],
  draw: [(plot) => drawAbove(chart, plot)],
});
