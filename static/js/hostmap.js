/* Host map on one canvas: clusters > hosts > devices. Cells shrink from 44 px down to 3 px, so that 10,000 devices fit.
   A state is a mark over the cell, never smaller than 8 px. The values come as columns (telemetry/views/data.py). */

import { grouped, layout } from "./mapplan.js";
import { query, token } from "./shell.js";

const PERCENT = { divisor: 0.01, unit: "%", low: 0, high: 1, lowLabel: "0 %", highLabel: "100 %", scale: "load" };
const METRICS = {
  utilisation: { ...PERCENT, key: "gpu_utilization_ratio" },
  memory: { ...PERCENT, key: "memory_used_ratio" },
  power: { key: "power_draw_watts", divisor: 1, unit: "W", low: 0, scale: "heat", lowLabel: "0 W" },
  temperature: { key: "temperature_celsius", divisor: 1, unit: "°C", low: 30, high: 90, lowLabel: "30 °C", highLabel: "90 °C", scale: "heat" },
  health: { key: null },
};
const ROWS = [
  ["Utilisation", "gpu_utilization_ratio", 0.01, "%"],
  ["Memory", "memory_used_ratio", 0.01, "%"],
  ["Power", "power_draw_watts", 1, "W"],
  ["Temperature", "temperature_celsius", 1, "°C"],
];
const WORDS = { ok: "healthy", warn: "warning", crit: "critical", silent: "silent" };
const GRAVITY = { ok: 0, silent: 0, warn: 1, crit: 2 };
const FONT = "Inter, system-ui, sans-serif";

const channels = (color) => color.match(/[\d.]+/g).slice(0, 3).map(Number);

function mix(stops, share) {
  const place = Math.min(0.99999, Math.max(0, share)) * (stops.length - 1);
  const [from, to] = [stops[Math.floor(place)], stops[Math.floor(place) + 1]];
  return `rgb(${from.map((value, i) => Math.round(value + (to[i] - value) * (place % 1))).join(",")})`;
}

const figure = (value, divisor, unit) => (value === null ? "—" : `${(value / divisor).toLocaleString("en-GB", { maximumSignificantDigits: 3 })}\u202f${unit}`);

export class HostMap {
  constructor(box) {
    this.box = box;
    this.canvas = box.querySelector("canvas");
    this.tip = box.querySelector(".tip");
    this.say = box.querySelector("[data-say]");
    this.ramp = document.querySelector("[data-ramp]");
    this.cells = [];
    this.focus = -1;
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    for (const end of ["pointerleave", "blur"]) this.canvas.addEventListener(end, () => this.select(-1));
    this.canvas.addEventListener("click", () => this.open());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    for (const change of ["sw:query", "sw:theme"]) document.addEventListener(change, () => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
    document.fonts.ready.then(() => this.draw());
  }

  show(data) {
    this.data = data;
    this.clusters = grouped(data);
    this.draw();
    if (this.focus >= 0) this.select(this.focus, { isQuiet: true });
  }

  metric() {
    const chosen = METRICS[query().get("metric")] ?? METRICS.utilisation;
    if (chosen !== METRICS.power) return chosen;
    const high = this.data.power_scale_watts ?? 1;
    return { ...chosen, high, highLabel: figure(high, 1, "W") };
  }

  /* Drawing -------------------------------------------------------------------------------------------------------- */

  draw() {
    if (!this.data) return;
    const width = Math.floor(this.box.clientWidth - 24);
    const ctx = this.canvas.getContext("2d");
    ctx.font = `400 10.5px ${FONT}`;
    const plan_ = layout(this.clusters, width, (host) => ctx.measureText(host.name).width);
    const ratio = devicePixelRatio || 1;
    this.canvas.style.height = `${plan_.height}px`;
    Object.assign(this.canvas, { width: width * ratio, height: plan_.height * ratio });
    ctx.scale(ratio, ratio);
    this.colors = Object.fromEntries(["surface", "bg", "text", "text-3", "crit", "warn", "stale", "surface-3", "load-4", "focus"].map((name) => [name, token(name)]));
    const metric = this.metric();
    const stops = metric.scale && Array.from({ length: 9 }, (_, i) => channels(token(`${metric.scale}-${i}`)));
    this.cells = [];
    const marks = [];
    for (const block of plan_.blocks) this.drawHost(ctx, plan_, block, metric, stops, marks);
    for (const cluster of this.clusters) this.drawHeading(ctx, cluster, plan_.blocks.find((block) => block.cluster === cluster).heading, metric, width);
    for (const mark of marks) this.drawMark(ctx, ...mark);
    this.drawFocus(ctx);
    this.drawRamp(metric);
  }

  drawHeading(ctx, cluster, y, metric, width) {
    const positions = cluster.hosts.flatMap((host) => host.cells);
    const values = metric.key ? positions.map((i) => this.data.values[metric.key][i]).filter((value) => value !== null) : [];
    const models = [...new Set(positions.map((i) => this.data.devices.model[i]))];
    const mean = values.length ? `  ·  mean ${figure(values.reduce((a, b) => a + b, 0) / values.length, metric.divisor, metric.unit)}` : "";
    const name = cluster.name || (this.clusters.length > 1 ? "no cluster" : "");
    const hosts = cluster.hosts.length;
    ctx.textBaseline = "alphabetic";
    ctx.font = `600 12px ${FONT}`;
    ctx.fillStyle = this.colors.text;
    ctx.fillText(name, 0, y + 12);
    const indent = name ? ctx.measureText(name).width + 10 : 0;
    ctx.font = `400 12px ${FONT}`;
    ctx.fillStyle = this.colors["text-3"];
    const kinds = new Set(positions.map((i) => this.data.devices.title[i].split(" ")[0]));
    const noun = kinds.size === 1 ? [...kinds][0] : "device";
    const devices = `${positions.length.toLocaleString("en-GB")} ${noun}${positions.length > 1 ? "s" : ""} on ${hosts.toLocaleString("en-GB")} host${hosts > 1 ? "s" : ""}`;
    const whole = [models.length === 1 ? models[0] : "", devices].filter(Boolean).join("  ·  ") + mean;
    const short = devices + mean;
    ctx.fillText(ctx.measureText(whole).width + indent <= width ? whole : short, indent, y + 12);
  }

  drawHost(ctx, { cell, cellHeight, gap, label }, block, metric, stops, marks) {
    let worst = 0;
    block.host.cells.forEach((position, i) => {
      const x = block.x + (i % block.columns) * (cell + gap);
      const y = block.y + Math.floor(i / block.columns) * (cellHeight + gap);
      const health = this.data.devices.health[position];
      const value = metric.key ? this.data.values[metric.key][position] : null;
      ctx.beginPath();
      ctx.roundRect(x, y, cell, cellHeight, cell >= 12 ? 3 : cell >= 7 ? 1.5 : 0);
      if (health === "silent") this.drawSilent(ctx, x, y, cell, cellHeight);
      else {
        ctx.fillStyle = value !== null ? mix(stops, (value - metric.low) / (metric.high - metric.low)) : !metric.key && health === "ok" ? this.colors["load-4"] : this.colors["surface-3"];
        ctx.fill();
      }
      if (cell >= 12 && GRAVITY[health]) marks.push([health, x + cell / 2, y + cellHeight / 2, Math.min(cell * 0.72, 20)]);
      else worst = Math.max(worst, GRAVITY[health]);
      this.cells.push({ position, host: block.host, x, y, width: cell, height: cellHeight });
    });
    if (worst) marks.push([worst === 2 ? "crit" : "warn", block.x + block.width / 2, block.y + block.height / 2, 8]);
    if (!label) return;
    ctx.font = `400 10.5px ${FONT}`;
    ctx.fillStyle = block.host.cells.some((i) => this.data.devices.health[i] !== "ok") ? this.colors.text : this.colors["text-3"];
    ctx.fillText(block.host.name, block.x, block.y + block.height + 12);
  }

  /* Silent: hollow and hatched, the path of the cell being open. */
  drawSilent(ctx, x, y, width, height) {
    ctx.fillStyle = this.colors.bg;
    ctx.fill();
    ctx.save();
    ctx.clip();
    ctx.strokeStyle = this.colors.stale;
    ctx.lineWidth = 1;
    ctx.beginPath();
    for (let shift = -height; shift < width; shift += 4) {
      ctx.moveTo(x + shift, y + height);
      ctx.lineTo(x + shift + height, y);
    }
    ctx.stroke();
    ctx.restore();
    if (width < 7) return;
    ctx.strokeStyle = this.colors.stale;
    ctx.setLineDash([2, 2]);
    ctx.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    ctx.setLineDash([]);
  }

  drawMark(ctx, health, x, y, size) {
    const radius = Math.max(8, size) / 2 - 0.5;
    const corners = health === "crit" ? [[0, -1], [1, 0], [0, 1], [-1, 0]] : [[0, -1], [1, 0.85], [-1, 0.85]];
    ctx.beginPath();
    for (const [dx, dy] of corners) ctx.lineTo(x + dx * radius, y + dy * radius);
    ctx.closePath();
    ctx.lineJoin = "round";
    ctx.lineWidth = 3;
    ctx.strokeStyle = this.colors.surface;
    ctx.stroke();
    ctx.fillStyle = this.colors[health];
    ctx.fill();
  }

  drawFocus(ctx) {
    const cell = this.cells[this.focus];
    if (!cell) return;
    ctx.strokeStyle = this.colors.focus;
    ctx.lineWidth = 2;
    ctx.strokeRect(cell.x - 1.5, cell.y - 1.5, cell.width + 3, cell.height + 3);
  }

  drawRamp(metric) {
    this.ramp.hidden = !metric.scale;
    if (!metric.scale) return;
    this.ramp.querySelectorAll("rect").forEach((step, i) => step.setAttribute("fill", `var(--${metric.scale}-${i})`));
    this.ramp.querySelector("[data-low]").textContent = metric.lowLabel;
    this.ramp.querySelector("[data-high]").textContent = metric.highLabel;
  }

  /* Pointer and keys ------------------------------------------------------------------------------------------------ */

  point(event) {
    const bounds = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
    const hit = this.cells.findIndex((c) => x >= c.x - 1 && x <= c.x + c.width + 1 && y >= c.y - 1 && y <= c.y + c.height + 1);
    this.canvas.classList.toggle("hit", hit >= 0);
    if (hit !== this.focus) this.select(hit, { isQuiet: true });
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
    if (step) {
      event.preventDefault();
      this.select(Math.min(this.cells.length - 1, Math.max(0, this.focus + step)));
    }
    if (event.key === "Enter") this.open();
    if (event.key === "Escape") this.select(-1);
  }

  open() {
    const cell = this.cells[this.focus];
    if (cell) location.href = `/devices/${this.data.devices.uuid[cell.position]}/`;
  }

  select(index, { isQuiet = false } = {}) {
    this.focus = index;
    this.draw();
    const cell = this.cells[index];
    this.tip.hidden = !cell;
    if (!cell) return;
    const { devices, values } = this.data;
    const state = WORDS[devices.health[cell.position]] + (devices.note[cell.position] ? `: ${devices.note[cell.position]}` : "");
    const rows = ROWS.map(([label, key, divisor, unit]) => [label, figure(values[key][cell.position], divisor, unit)]);
    this.fillTip(`${cell.host.name} · ${devices.title[cell.position]}`, state, rows);
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const isLow = cell.y > this.canvas.clientHeight * 0.6;
    this.tip.style.left = `${Math.min(this.box.clientWidth - width - 8, Math.max(4, cell.x + 26))}px`;
    this.tip.style.top = `${isLow ? cell.y - height - 8 : cell.y + cell.height + 10}px`;
    if (!isQuiet) this.say.textContent = `${cell.host.name} ${devices.title[cell.position]}, ${state}, utilisation ${rows[0][1]}`;
  }

  fillTip(title, state, rows) {
    const make = (tag, text, name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
    const list = document.createElement("dl");
    for (const [label, value] of rows) list.append(make("dt", label), make("dd", value));
    this.tip.replaceChildren(make("b", title), " ", make("span", state, "muted"), list);
  }
}
