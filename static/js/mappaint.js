/* Paints the cells of the host map: rounded ones as paths, tiny ones (thousands of them) as pixels of one image.
   Called by hostmap.js. A view is {ctx, plan, data, metric, colors, ratio}. */

import { token } from "./shell.js";

const SHADES = 256;
const TINY = 7; // pixels: below this a cell is a rectangle without a gap worth drawing
const GRAVITY = { ok: 0, silent: 0, warn: 1, crit: 2 };
const NAMES = ["surface", "bg", "text", "text-3", "crit", "warn", "stale", "surface-3", "load-4", "focus"];

const channels = (color) => color.match(/[\d.]+/g).slice(0, 3).map(Number);
const css = (rgb) => `rgb(${rgb.join(",")})`;
const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // little-endian RGBA

/* The colours of the theme, and each scale in so many shades. Its nine stops are even steps of lightness (tokens.css). */
export function readColors() {
  const colors = Object.fromEntries(NAMES.map((name) => [name, token(name)]));
  const scales = {};
  for (const scale of ["load", "heat", "div"]) {
    const stops = Array.from({ length: 9 }, (_, i) => channels(token(`${scale}-${i}`)));
    scales[scale] = Array.from({ length: SHADES }, (_, shade) => {
      const place = Math.min(7.99999, (shade / (SHADES - 1)) * 8);
      const [from, to] = [stops[Math.floor(place)], stops[Math.floor(place) + 1]];
      return from.map((value, i) => Math.round(value + (to[i] - value) * (place % 1)));
    });
  }
  return { ...colors, scales };
}

/* The shade of a device's cell, -1 for silent and -2 where its value is unknown; by health alone 255 is well. */
function shadeOf({ data, metric }, i) {
  if (data.health[i] === "silent") return -1;
  if (!metric.key) return data.health[i] === "ok" ? SHADES - 1 : -2;
  const value = data.values[metric.key]?.[i] ?? NaN;
  if (Number.isNaN(value)) return -2;
  const share = Math.min(1, Math.max(0, (value - metric.low) / (metric.high - metric.low)));
  return Math.round(share * (SHADES - 1));
}

function palette({ metric, colors }, make) {
  const shades = metric.scale ? colors.scales[metric.scale].map(make) : [];
  if (!metric.scale) shades[SHADES - 1] = make(channels(colors["load-4"]));
  return { shades, unknown: make(channels(colors["surface-3"])) };
}

export function paintCells(view) {
  if (view.plan.cell < TINY) paintPixels(view);
  else paintPaths(view);
}

function paintPaths(view) {
  const { ctx, plan } = view;
  const { cell, cellHeight, x, y } = plan;
  const { shades, unknown } = palette(view, css);
  for (let i = 0; i < x.length; i++) {
    const shade = shadeOf(view, i);
    ctx.beginPath();
    ctx.roundRect(x[i], y[i], cell, cellHeight, cell >= 12 ? 3 : 1.5);
    if (shade === -1) {
      paintSilent(view, x[i], y[i]);
      continue;
    }
    ctx.fillStyle = shade < 0 ? unknown : shades[shade];
    ctx.fill();
  }
}

/* Silent: hollow, hatched and dashed; the path of the cell is open. */
function paintSilent({ ctx, colors, plan: { cell, cellHeight } }, x, y) {
  ctx.fillStyle = colors.bg;
  ctx.fill();
  ctx.save();
  ctx.clip();
  ctx.strokeStyle = colors.stale;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (let shift = -cellHeight; shift < cell; shift += 4) {
    ctx.moveTo(x + shift, y + cellHeight);
    ctx.lineTo(x + shift + cellHeight, y);
  }
  ctx.stroke();
  ctx.restore();
  ctx.strokeStyle = colors.stale;
  ctx.setLineDash([2, 2]);
  ctx.strokeRect(x + 0.5, y + 0.5, cell - 1, cellHeight - 1);
  ctx.setLineDash([]);
}

function paintPixels(view) {
  const { ctx, plan, ratio, colors } = view;
  const { width, height } = ctx.canvas;
  const image = ctx.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const { shades, unknown } = palette(view, packed);
  const [hollow, hatch] = [packed(channels(colors.bg)), packed(channels(colors.stale))];
  const [wide, high] = [Math.max(1, Math.round(plan.cell * ratio)), Math.max(1, Math.round(plan.cellHeight * ratio))];
  for (let i = 0; i < plan.x.length; i++) {
    const shade = shadeOf(view, i);
    const [left, top] = [Math.round(plan.x[i] * ratio), Math.round(plan.y[i] * ratio)];
    const color = shade < 0 ? unknown : shades[shade];
    const right = Math.min(width, left + wide);
    for (let row = top; row < Math.min(height, top + high); row++) {
      if (shade !== -1) pixels.fill(color, row * width + left, row * width + right);
      else for (let column = left; column < right; column++) pixels[row * width + column] = (row + column) % 4 ? hollow : hatch;
    }
  }
  ctx.putImageData(image, 0, 0);
}

/* States as shapes over the cells, never smaller than 8 px: one a device, or one a host where cells are small. */
export function paintMarks(view) {
  const { plan, data } = view;
  const { cell, cellHeight } = plan;
  for (const { host, ...block } of plan.blocks) {
    let worst = 0;
    for (let i = host.first; i < host.first + host.n; i++) {
      const gravity = GRAVITY[data.health[i]];
      if (!gravity) continue;
      worst = Math.max(worst, gravity);
      if (cell >= 12) paintMark(view, gravity, plan.x[i] + cell / 2, plan.y[i] + cellHeight / 2, Math.min(cell * 0.72, 20));
    }
    if (worst && cell < 12) paintMark(view, worst, block.x + block.width / 2, block.y + block.height / 2, 8);
  }
}

function paintMark({ ctx, colors }, gravity, x, y, size) {
  const radius = Math.max(8, size) / 2 - 0.5;
  const corners = gravity === 2 ? [[0, -1], [1, 0], [0, 1], [-1, 0]] : [[0, -1], [1, 0.85], [-1, 0.85]];
  ctx.beginPath();
  for (const [dx, dy] of corners) ctx.lineTo(x + dx * radius, y + dy * radius);
  ctx.closePath();
  ctx.lineJoin = "round";
  ctx.lineWidth = 3;
  ctx.strokeStyle = colors.surface;
  ctx.stroke();
  ctx.fillStyle = gravity === 2 ? colors.crit : colors.warn;
  ctx.fill();
}
