/* Keyboard shortcuts and the search field: "/" searches, "?" lists the keys, "g" and a letter goes to a page.

   A link with data-go="h" is where "g h" leads. Keys without a modifier can be turned off (WCAG 2.1.4); the choice is kept here. */

const WITHIN_MS = 1200;
const dialog = document.getElementById("keys");
const find = document.querySelector("[data-find]");
const found = document.getElementById("found");
let goAt = -Infinity;

function areOn() {
  try {
    return localStorage.getItem("sw-keys") !== "off";
  } catch {
    return true; // storage is closed to this page
  }
}

function turn(on) {
  try {
    localStorage.setItem("sw-keys", on ? "on" : "off");
  } catch {
    /* storage is closed to this page: the choice cannot be kept */
  }
}

function list() {
  dialog.querySelector("[data-keys-on]").checked = areOn();
  dialog.showModal();
}

function goTo(letter) {
  const link = document.querySelector(`[data-go="${CSS.escape(letter)}"]`);
  if (link) location.assign(link.href);
}

function search(event) {
  const input = find?.querySelector("input");
  event.preventDefault();
  if (input?.offsetParent) input.focus();
  else location.assign(document.querySelector("[data-search]")?.href ?? "/search/");
}

const isWriting = (target) => target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target) || dialog?.open || !areOn()) return;
  const isSecond = event.timeStamp - goAt < WITHIN_MS;
  goAt = event.key === "g" ? event.timeStamp : -Infinity;
  if (event.key === "/") search(event);
  else if (event.key === "?" && dialog) list();
  else if (isSecond && event.key !== "g") goTo(event.key);
}

/* Arrow keys move between the field and the links of what was found. */
function onFindKey(event) {
  const stops = [find.querySelector("input"), ...found.querySelectorAll("a")];
  const at = stops.indexOf(document.activeElement);
  if (event.key === "Escape") {
    found.replaceChildren();
    stops[0].focus();
  } else if (at >= 0 && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
    event.preventDefault();
    stops[(at + (event.key === "ArrowDown" ? 1 : stops.length - 1)) % stops.length].focus();
  }
}

/* An answer that comes late replaces what was found before: the link that had the focus has it again, else the first one. */
let focused = null;

function beforeFound({ detail: { target } }) {
  if (target === found) focused = found.contains(document.activeElement) ? document.activeElement.href : null;
}

function afterFound({ detail: { target } }) {
  if (target !== found || focused === null) return;
  const links = [...found.querySelectorAll("a")];
  (links.find(({ href }) => href === focused) ?? links[0] ?? find.querySelector("input")).focus();
  focused = null;
}

document.addEventListener("htmx:beforeSwap", beforeFound);
document.addEventListener("htmx:afterSwap", afterFound);
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-keys]")) list();
  if (find && !find.contains(event.target)) found.replaceChildren();
});
dialog?.addEventListener("change", (event) => event.target.matches("[data-keys-on]") && turn(event.target.checked));
find?.addEventListener("keydown", onFindKey);
