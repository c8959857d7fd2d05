/* The shell of every page: live ticks, theme, URL state, times, menus, copy, sortable tables. No dependencies.

   `sw:tick` goes to document.body every 2 s while the page is live and in sight; htmx fragments and charts refresh on it.
   `sw:theme` goes to document when the colours change, `sw:query` when a control writes the query string. */

const TICK_MS = 2000;
const root = document.documentElement;
const all = (selector, within = document) => Array.from(within.querySelectorAll(selector));

/* Query string ------------------------------------------------------------------------------------------------ */

export const query = () => new URLSearchParams(location.search);

export function setQuery(values) {
  const params = query();
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") params.delete(key);
    else params.set(key, value);
  }
  const text = params.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : "") + location.hash);
  document.dispatchEvent(new CustomEvent("sw:query", { detail: values }));
}

/* A button with data-q="key=value" sets that parameter; one with data-q-default is chosen where none is set. */
function reflect() {
  const params = query();
  for (const button of all("[data-q]")) {
    const [key, value] = button.dataset.q.split("=");
    const chosen = params.has(key) ? params.get(key) === value : "qDefault" in button.dataset;
    button.setAttribute("aria-pressed", String(chosen));
  }
}

function choose(button) {
  const [key, value] = button.dataset.q.split("=");
  setQuery({ [key]: "qDefault" in button.dataset ? null : value });
  reflect();
  filterRows();
}

/* A range link keeps what controls have written to the address since the page was loaded. */
function openRange(event, link) {
  const params = query();
  params.set("range", link.dataset.range);
  params.delete("from");
  params.delete("to");
  link.href = `?${params}`;
}

/* Live and paused --------------------------------------------------------------------------------------------- */

let pointerIsDown = false;
let live = query().get("live") !== "0";

export const isLive = () => live;

function tick() {
  times();
  if (live && !pointerIsDown && !document.hidden) document.body.dispatchEvent(new CustomEvent("sw:tick", { bubbles: true }));
}

function setLive(on) {
  live = on;
  setQuery({ live: on ? null : "0" });
  showLive();
  if (on) tick();
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
const themed = () => document.dispatchEvent(new Event("sw:theme"));
const probe = document.createElement("span");
probe.hidden = true;

/* The computed colour of a token, "s1" or with its opacity "s1/0.17", as rgb(…) or rgba(…). */
export function token(name) {
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

/* Times: <time datetime="…Z" data-f="ago|at"> in the viewer's zone; the title holds UTC ------------------------ */

const two = (n) => String(n).padStart(2, "0");
const GAP = "\u202f";

function age(seconds) {
  if (seconds < 60) return `${Math.round(seconds)}${GAP}s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${GAP}min ago`;
  if (seconds >= 172800) return `${Math.floor(seconds / 86400)}${GAP}d ago`;
  return `${Math.floor(seconds / 3600)}${GAP}h ${Math.floor((seconds % 3600) / 60)}${GAP}min ago`;
}

function clock(moment, now) {
  const time = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  if (moment.toDateString() === now.toDateString()) return time;
  const day = moment.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return moment.getFullYear() === now.getFullYear() ? `${day}, ${time}` : `${day} ${moment.getFullYear()}, ${time}`;
}

export function times(within = document) {
  const now = new Date();
  for (const element of all("time[datetime]", within)) {
    const moment = new Date(element.dateTime);
    // The server's clock may be a little ahead of this one: no age below zero.
    const text = element.dataset.f === "ago" ? age(Math.max(0, (now - moment) / 1000)) : clock(moment, now);
    if (element.textContent !== text) element.textContent = text;
  }
  for (const element of all("[data-zone]", within)) element.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
}

/* Tables ------------------------------------------------------------------------------------------------------ */

/* Rows with data-state="a b" are filtered by ?state=, and by ?q= on their text. */
function filterRows() {
  const params = query();
  const state = params.get("state");
  const text = (params.get("q") ?? "").toLowerCase();
  for (const row of all("tr[data-state]")) {
    const inState = !state || row.dataset.state.split(" ").includes(state);
    row.hidden = !(inState && (!text || row.textContent.toLowerCase().includes(text)));
  }
}

/* Cells sort on data-v, else on their text. An unknown value (data-v="") stands last in either direction. */
function sortKey(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.v ?? cell.textContent.trim();
  return value === "" || Number.isNaN(Number(value)) ? value : Number(value);
}

function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return order * sign;
}

function sortBy(table, heading, descending) {
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows, (row) => [sortKey(row, heading.cellIndex), row]);
  rows.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

/* ?sort=-power sorts the table whose heading has data-k="power", largest first. */
function applySort() {
  const wanted = query().get("sort");
  if (!wanted) return;
  const key = wanted.replace(/^-/, "");
  for (const table of all("table[data-sort]")) {
    const heading = all("th[data-k]", table).find((th) => th.dataset.k === key);
    if (heading) sortBy(table, heading, wanted.startsWith("-"));
  }
}

function sortByHeading(heading) {
  const current = heading.getAttribute("aria-sort");
  const descending = current ? current === "ascending" : heading.classList.contains("num");
  sortBy(heading.closest("table"), heading, descending);
  if (heading.dataset.k) setQuery({ sort: (descending ? "-" : "") + heading.dataset.k });
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
  if (!answer.ok) throw new Error(`${url}: status ${answer.status}`);
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
  const key = `${target.id} ${xhr.responseURL}`;
  if (lastFragment.get(key) === xhr.responseText) event.detail.shouldSwap = false;
  lastFragment.set(key, xhr.responseText);
}

/* Wiring ------------------------------------------------------------------------------------------------------ */

function onClick(event) {
  const hit = (selector) => event.target.closest(selector);
  for (const menu of all("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  if (hit("[data-q]")) choose(hit("[data-q]"));
  else if (hit("[data-range]")) openRange(event, hit("[data-range]"));
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
  filterRows();
}

document.addEventListener("click", onClick);
document.addEventListener("keydown", onKey);
document.addEventListener("input", (event) => {
  if (!event.target.matches("[data-filter]")) return;
  setQuery({ q: event.target.value });
  filterRows();
});
document.addEventListener("htmx:beforeSwap", beforeSwap);
document.addEventListener("htmx:afterSwap", afterSwap);
document.addEventListener("visibilitychange", tick);
addEventListener("pointerdown", () => (pointerIsDown = true));
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => (pointerIsDown = false));
systemIsDark.addEventListener("change", themed);

for (const input of all("[data-filter]")) input.value = query().get("q") ?? "";
reflect();
showLive();
afterSwap();
setInterval(tick, TICK_MS);
