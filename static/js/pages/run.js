/* The page of a run: its figures follow the zoom of the charts, by the window that stands in the address. */

import { carryWindow } from "../address.js";

document.addEventListener("htmx:configRequest", ({ detail }) => {
  if (!("runWindow" in detail.elt.dataset)) return;
  const url = new URL(detail.path, location.href);
  carryWindow(url.searchParams);
  detail.path = url.pathname + url.search;
});

document.addEventListener("sw:query", ({ detail }) => {
  if (!("from" in detail)) return;
  document.body.dispatchEvent(new CustomEvent("sw:window"));
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
