/* The page of a run: its figures follow the zoom of the charts, by the window that stands in the address. */

import { query } from "../shell.js";

const WINDOW = ["from", "to"];

/* What is asked for carries the zoomed window along; without a zoom the range of the page holds. */
function carry(params) {
  const zoom = query();
  for (const name of WINDOW) {
    if (zoom.has(name)) params.set(name, zoom.get(name));
    else params.delete(name);
  }
}

function link(anchor) {
  const url = new URL(anchor.href, location.href);
  carry(url.searchParams);
  anchor.href = url.pathname + url.search;
}

document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (!("runWindow" in detail.elt.dataset)) return;
  const url = new URL(detail.path, location.href);
  carry(url.searchParams);
  detail.path = url.pathname + url.search;
});

document.addEventListener("sw:query", ({ detail }) => {
  if (!("from" in detail)) return;
  document.body.dispatchEvent(new CustomEvent("sw:window"));
});

document.addEventListener("click", ({ target }) => {
  const anchor = target.closest("[data-window-link]");
  if (anchor) link(anchor);
});

/* A tile's working, once opened, stays open while its figures change. */
const opened = new Set();
document.addEventListener("toggle", ({ target }) => {
  if (!target.matches("details.how")) return;
  if (target.open) opened.add(target.id);
  else if (target.isConnected) opened.delete(target.id);
}, true);
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
});
