/* Host map on one canvas: clusters > hosts > devices. Cells shrink from 44 px down to 3 px, so that 10,000 devices fit.
   A state is a mark over the cell, never smaller than 8 px. The values come as columns (telemetry/views/fleet_map.py). */

import { readColors, paintCells, paintMarks } from "./mappaint.js";
import { METRICS, addStanding, figure, mean, metricOf, readColumns } from "./mapmetrics.js";
import { cellAt, cellBeside, grouped, layout } from "./mapplan.js";
import { query } from "./shell.js";

const WORDS = { ok: "healthy", warn: "warning", crit: "critical", silent: "silent" };
const FONT = "Inter, system-ui, sans-serif";
const [LABEL, NAME, WORDING] = [`400 10.5px ${FONT}`, `600 12px ${FONT}`, `400 12px ${FONT}`];
const INDENT = 10; // pixels between a cluster's name and what it is
const ROWS = Object.values(METRICS).filter(({ key }) => key);

const make = (tag, text, name = "") => Object.assign(document.createElement(tag), { textContent: text, className: name });
const sameHosts = (a, b) => a && ["name", "cluster", "devices"].every((key) => a[key].length === b[key].length && a[key].every((value, i) => value === b[key][i]));

export class HostMap {
  constructor(box) {
    this.box = box;
    this.canvas = box.querySelector("canvas");
    this.ctx = this.canvas.getContext("2d");
    this.ring = box.querySelector(".ring");
    this.tip = box.querySelector(".tip");
    this.say = box.querySelector("[data-say]");
    this.ramp = document.querySelector("[data-ramp]");
    this.focus = -1;
    this.widths = new Map();
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerdown", (event) => this.touch(event));
    for (const end of ["pointerleave", "blur"]) this.canvas.addEventListener(end, () => this.select(-1));
    this.canvas.addEventListener("click", () => this.open());
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("sw:query", ({ detail }) => "metric" in detail && this.draw());
    document.addEventListener("sw:theme", () => ((this.colors = null), this.draw()));
    new ResizeObserver(() => this.box.clientWidth !== this.drawnWidth && this.arrange()).observe(box);
    document.fonts.ready.then(() => (this.widths.clear(), this.arrange()));
  }

  show(columns) {
    const chosen = this.data?.id[this.focus];
    const isSame = sameHosts(this.data?.hosts, columns.hosts);
    this.data = readColumns(columns);
    if (this.standing) addStanding(this.data, this.standing);
    if (isSame) this.draw();
    else this.arrange();
    if (this.focus >= 0) this.select(this.data.id.indexOf(chosen), { isQuiet: true });
  }

  stand(standing) {
    this.standing = standing;
    if (!this.data) return;
    addStanding(this.data, standing);
    if (this.metric().key === "baseline") this.draw();
  }

  metric() {
    return metricOf(query().get("metric"), this.data);
  }

  /* Drawing -------------------------------------------------------------------------------------------------------- */

  arrange() {
    if (!this.data) return;
    const width = Math.floor(this.box.clientWidth - 24);
    this.drawnWidth = this.box.clientWidth;
    this.clusters = grouped(this.data.hosts);
    const headings = new Map(this.clusters.map((cluster) => [cluster, this.headingWidth(cluster)]));
    this.plan = layout(this.clusters, width, { label: (host) => this.labelWidth(host.name), heading: (cluster) => headings.get(cluster) });
    this.ratio = devicePixelRatio || 1;
    this.canvas.style.height = `${this.plan.height}px`;
    Object.assign(this.canvas, { width: Math.round(width * this.ratio), height: Math.round(this.plan.height * this.ratio) });
    this.ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    this.draw();
  }

  textWidth(text, font) {
    this.ctx.font = font;
    return this.ctx.measureText(text).width;
  }

  /* Kept: each size that is tried asks for all of them. */
  labelWidth(name) {
    if (!this.widths.has(name)) this.widths.set(name, this.textWidth(name, LABEL));
    return this.widths.get(name);
  }

  /* Of any metric about the same. */
  headingWidth(cluster) {
    const [whole] = this.headingWords(cluster, METRICS.utilisation);
    return this.textWidth(this.headingName(cluster), NAME) + INDENT + this.textWidth(whole, WORDING);
  }

  headingName(cluster) {
    return cluster.name || (this.clusters.length > 1 ? "no cluster" : "");
  }

  draw() {
    if (!this.plan) return;
    this.colors ??= readColors();
    const { ctx, plan, data, colors, ratio } = this;
    const metric = this.metric();
    const view = { ctx, plan, data, metric, colors, ratio };
    ctx.clearRect(0, 0, this.canvas.width, this.canvas.height);
    paintCells(view);
    this.drawHeadings(metric);
    if (plan.label) this.drawLabels();
    paintMarks(view);
    this.drawRamp(metric);
    if (this.canvas.dataset.drawn !== metric.label) this.canvas.dataset.drawn = metric.label; // for whoever waits for it
  }

  drawHeadings(metric) {
    const { ctx, colors } = this;
    const headings = new Map(this.plan.blocks.map((block) => [block.cluster, block.heading]));
    ctx.textBaseline = "alphabetic";
    for (const [cluster, { x, y, width }] of headings) {
      const name = this.headingName(cluster);
      const indent = name ? this.textWidth(name, NAME) + INDENT : 0;
      const [whole, short] = this.headingWords(cluster, metric);
      const words = this.textWidth(whole, WORDING) + indent <= width ? whole : short;
      ctx.font = NAME;
      ctx.fillStyle = colors.text;
      ctx.fillText(name, x, y + 12);
      ctx.font = WORDING;
      ctx.fillStyle = colors["text-3"];
      ctx.fillText(words, x + indent, y + 12);
    }
  }

  headingWords({ hosts, first, n }, metric) {
    const positions = Array.from({ length: n }, (_, i) => first + i);
    const average = metric.key && this.data.values[metric.key] ? mean(this.data.values[metric.key], first, n) : null;
    const models = new Set(positions.map(this.data.model));
    const kinds = new Set(positions.map((i) => this.data.title(i).split(" ")[0]));
    const noun = kinds.size === 1 ? [...kinds][0] : "device";
    const devices = `${n.toLocaleString("en-GB")} ${noun}${n > 1 ? "s" : ""} on ${hosts.length.toLocaleString("en-GB")} host${hosts.length > 1 ? "s" : ""}`;
    const short = devices + (average === null ? "" : `  ·  mean ${figure(average, metric)}`);
    const model = models.size === 1 ? [...models][0] : "";
    return [model ? `${model}  ·  ${short}` : short, short];
  }

  drawLabels() {
    const { ctx, colors, data } = this;
    ctx.font = LABEL;
    for (const { host, x, y, height } of this.plan.blocks) {
      const isWell = data.health.slice(host.first, host.first + host.n).every((health) => health === "ok");
      ctx.fillStyle = isWell ? colors["text-3"] : colors.text;
      ctx.fillText(host.name, x, y + height + 12);
    }
  }

  drawRamp(metric) {
    if (this.drawnRamp === metric.label + metric.highLabel) return;
    this.drawnRamp = metric.label + metric.highLabel;
    this.ramp.hidden = !metric.scale;
    if (!metric.scale) return;
    this.ramp.querySelectorAll("rect").forEach((step, i) => step.setAttribute("fill", `var(--${metric.scale}-${i})`));
    this.ramp.querySelector("[data-low]").textContent = metric.lowLabel;
    this.ramp.querySelector("[data-high]").textContent = metric.highLabel;
  }

  /* Pointer and keys ------------------------------------------------------------------------------------------------ */

  hit(event) {
    const bounds = this.canvas.getBoundingClientRect();
    return this.plan ? cellAt(this.plan, event.clientX - bounds.left, event.clientY - bounds.top) : -1;
  }

  point(event) {
    const hit = this.hit(event);
    this.canvas.classList.toggle("hit", hit >= 0);
    if (hit !== this.focus) this.select(hit, { isQuiet: true });
  }

  /* A finger's first touch shows the card, the second one on the same cell opens the device. */
  touch(event) {
    if (event.pointerType === "mouse") return;
    const hit = this.hit(event);
    this.isFirstTouch = hit !== this.focus;
    this.select(hit, { isQuiet: true });
  }

  key(event) {
    if (event.key.startsWith("Arrow")) {
      event.preventDefault();
      this.select(cellBeside(this.plan, this.focus, event.key));
    }
    if (event.key === "Enter") this.open();
    if (event.key === "Escape") this.select(-1);
  }

  open() {
    const isShownOnly = this.isFirstTouch;
    this.isFirstTouch = false;
    if (this.focus >= 0 && !isShownOnly) location.href = this.box.dataset.device.replace("/0/", `/${this.data.id[this.focus]}/`);
  }

  select(index, { isQuiet = false } = {}) {
    this.focus = index;
    this.tip.hidden = this.ring.hidden = index < 0;
    if (index < 0) return;
    const { data, plan } = this;
    const block = plan.blocks.find(({ host }) => index >= host.first && index < host.first + host.n);
    const state = WORDS[data.health[index]] + (data.note(index) ? `: ${data.note(index)}` : "");
    const name = `${block.host.name} · ${data.title(index)}`;
    const rows = ROWS.map((metric) => [metric.label, figure(data.values[metric.key]?.[index] ?? NaN, metric)]);
    this.fillTip(name, state, [...rows, ["Run", data.run(index) || "—"]]);
    this.place(plan.x[index], plan.y[index]);
    const metric = this.metric();
    const spoken = metric.key ? `, ${metric.label.toLowerCase()} ${figure(data.values[metric.key]?.[index] ?? NaN, metric)}` : "";
    if (!isQuiet) this.say.textContent = `${name}, ${state}${spoken}`;
  }

  place(x, y) {
    const { cell, cellHeight } = this.plan;
    const left = x + this.canvas.offsetLeft;
    Object.assign(this.ring.style, { left: `${left - 2}px`, top: `${y - 2}px`, width: `${cell + 4}px`, height: `${cellHeight + 4}px` });
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const isLow = y > this.canvas.clientHeight * 0.6;
    this.tip.style.left = `${Math.min(this.box.clientWidth - width - 8, Math.max(4, left + 14))}px`;
    this.tip.style.top = `${isLow ? y - height - 8 : y + cellHeight + 10}px`;
  }

  fillTip(title, state, rows) {
    const list = document.createElement("dl");
    for (const [label, value] of rows) list.append(make("dt", label), make("dd", value));
    this.tip.replaceChildren(make("b", title), " ", make("span", state, "muted"), list);
  }
}
