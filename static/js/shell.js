/* The shell of every page: live ticks, theme, URL state, times, menus, copy; tables by table.js.

   `sw:tick` goes to document.body every 2 s while the page is live and in sight; htmx fragments and charts refresh on it.
   `sw:theme` goes to document when the colours change, with `isAtOnce` where what is drawn must follow before it returns;
   `sw:query` when a control writes the query string. */

import { carryWindow, query, reflect, setQuery } from "./address.js";
import { isPressed, whenReleased } from "./press.js";
import { applySort, sortByHeading } from "./table.js";

export { query, setQuery };

const TICK_MS = 2000;
const BESIDE = 24; // pixels of the choice before it
const root = document.documentElement;
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

/* Controls that write the address ------------------------------------------------------------------------------- */

function choose(button) {
  const [key, value] = button.dataset.q.split("=");
  setQuery({ [key]: "qDefault" in button.dataset ? null : value });
  reflect();
}

/* A range link keeps what controls have written to the address since the page was loaded. */
function openRange(event, link) {
  const params = query();
  params.set("range", link.dataset.range);
  params.delete("from");
  params.delete("to");
  link.href = `?${params}`;
}

/* A file of what the charts show is of the same part of the time. */
function linkWindow(link) {
  const url = new URL(link.href, location.href);
  carryWindow(url.searchParams);
  link.href = url.pathname + url.search;
}

/* Live and paused --------------------------------------------------------------------------------------------- */

let live = query().get("live") !== "0";

function tick() {
  if (isPressed()) return;
  times();
  if (live && !document.hidden) document.body.dispatchEvent(new CustomEvent("sw:tick", { bubbles: true }));
}

function setLive(on) {
  live = on;
  setQuery({ live: on ? null : "0" });
  showLive();
  if (on) whenReleased(tick);
}

function showLive() {
  for (const button of all("[data-live]")) {
    button.setAttribute("aria-pressed", String(live));
    button.querySelector("[data-label]").textContent = live ? "Live" : "Paused";
  }
}

/* Theme and colours ------------------------------------------------------------------------------------------- */

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemIsDark.matches);
const tokens = new Map();
const themed = (isAtOnce = false) => {
  tokens.clear();
  document.dispatchEvent(new CustomEvent("sw:theme", { detail: { isAtOnce } }));
};
const probe = document.createElement("span");
probe.hidden = true;

/* The computed colour of a token, "s1" or with its opacity "s1/0.17", as rgb(…) or rgba(…). */
export function token(name) {
  if (!tokens.has(name)) tokens.set(name, readToken(name));
  return tokens.get(name);
}

function readToken(name) {
  const [base, opacity] = name.split("/");
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(--${base})`;
  const [red, green, blue, own] = getComputedStyle(probe).color.match(/[\d.]+/g);
  return opacity || own ? `rgba(${red}, ${green}, ${blue}, ${opacity ?? own})` : `rgb(${red}, ${green}, ${blue})`;
}

function toggleTheme() {
  root.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem("sw-theme", root.dataset.theme);
  } catch {
    /* storage is closed to this page: the choice lasts until it is left */
  }
  themed();
}

/* Paper is light: what scripts have drawn is drawn so before it is printed, and as it was thereafter. */
function beforePrint() {
  const { theme } = root.dataset;
  root.dataset.theme = "light";
  themed(true);
  addEventListener("afterprint", () => afterPrint(theme), { once: true });
}

function afterPrint(theme) {
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  themed();
}

/* Times: <time datetime="…Z" data-f="ago|at|second"> in the viewer's zone; the title holds UTC ------------------------ */

const two = (n) => String(n).padStart(2, "0");
const GAP = "\u202f";

function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)}${GAP}s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${GAP}min ago`;
  if (seconds >= 172800) return `${Math.floor(seconds / 86400)}${GAP}d ago`;
  return `${Math.floor(seconds / 3600)}${GAP}h ${Math.floor((seconds % 3600) / 60)}${GAP}min ago`;
}

function clock(moment, now, withSeconds) {
  const parts = [moment.getHours(), moment.getMinutes(), ...(withSeconds ? [moment.getSeconds()] : [])];
  const time = parts.map(two).join(":");
  if (moment.toDateString() === now.toDateString()) return time;
  const day = moment.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return moment.getFullYear() === now.getFullYear() ? `${day}, ${time}` : `${day} ${moment.getFullYear()}, ${time}`;
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export function times(within = document) {
  const now = new Date();
  for (const element of all("time[datetime]", within)) {
    const moment = new Date(element.dateTime);
    // The server's clock may be a little ahead of this one: no age below zero.
    const text = element.dataset.f === "ago" ? age(Math.max(0, (now - moment) / 1000)) : clock(moment, now, element.dataset.f === "second");
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of all("[data-zone]", within)) if (element.textContent !== zone) element.textContent = zone;
}

/* Copying ----------------------------------------------------------------------------------------------------- */

async function copy(button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
    button.textContent = "Copied";
  } catch {
    button.textContent = "Select and copy by hand"; // browsers allow it on https and localhost only
  }
  setTimeout(() => (button.textContent = label), 1600);
}

/* Fetching ---------------------------------------------------------------------------------------------------- */

/* The JSON answer of a URL of this site. A session that has ended leads to the sign-in page. */
export async function fetchJson(url) {
  const answer = await fetch(url, { headers: { Accept: "application/json" } });
  if (answer.redirected) location.reload();
  if (!answer.ok) throw Object.assign(new Error(`${url}: status ${answer.status}`), { status: answer.status });
  return answer.json();
}

/* A fragment that has not changed is not swapped: a selection or an open tooltip in it stays. */
const lastFragment = new Map();

function beforeSwap(event) {
  const { xhr, target, requestConfig } = event.detail;
  if (new URL(xhr.responseURL, location.href).pathname === "/login/") {
    event.detail.shouldSwap = false;
    location.reload();
    return;
  }
  if (requestConfig.verb !== "get" || !target.id) return;
  if (lastFragment.get(target.id) === xhr.responseText) event.detail.shouldSwap = false;
  lastFragment.set(target.id, xhr.responseText);
}

/* Wiring ------------------------------------------------------------------------------------------------------ */

function onClick(event) {
  const hit = (selector) => event.target.closest(selector);
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  if (hit("[data-q]")) choose(hit("[data-q]"));
  else if (hit("[data-range]")) openRange(event, hit("[data-range]"));
  else if (hit("[data-window-link]")) linkWindow(hit("[data-window-link]"));
  else if (hit("[data-live]")) setLive(!live);
  else if (hit("[data-theme-toggle]")) toggleTheme();
  else if (hit("[data-copy]")) copy(hit("[data-copy]"));
  else if (hit("table[data-sort] th button")) sortByHeading(hit("th"));
}

function onKey(event) {
  if (event.key === " " && event.target === document.body && document.querySelector("[data-live]")) {
    event.preventDefault();
    setLive(!live);
  }
  if (event.key !== "Escape") return;
  for (const menu of all("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
}

function afterSwap() {
  times();
  applySort();
}

document.addEventListener("click", onClick);
document.addEventListener("keydown", onKey);
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-filter]")) return;
  setQuery({ q: event.target.value });
});
document.addEventListener("htmx:beforeSwap", beforeSwap);
document.addEventListener("htmx:afterSwap", afterSwap);
document.addEventListener("visibilitychange", tick);
systemIsDark.addEventListener("change", () => themed());
addEventListener("beforeprint", beforePrint);

/* On a phone a row of choices scrolls: the chosen one is to be seen. */
function showChosen() {
  if (!matchMedia("(max-width: 760px)").matches) return;
  for (const chosen of all(".seg [aria-current], .seg [aria-pressed=true]")) {
    const row = chosen.parentElement;
    row.scrollLeft = chosen.offsetLeft - row.offsetLeft - BESIDE;
  }
}

for (const input of all("[data-filter]")) input.value = query().get("q") ?? "";
reflect();
showChosen();
showLive();
afterSwap();
setInterval(tick, TICK_MS);
