/* The fleet page: its host map, fetched as columns: whenever the tiles changed, so that both tell the same, and else each 5 s. */

import { HostMap } from "../hostmap.js";
import { fetchJson } from "../shell.js";

const EVERY_MS = 5000;
const box = document.getElementById("hostmap");
const map = new HostMap(box);
let fetchedAt = -Infinity;
let isFetching = false;

async function refresh() {
  if (isFetching) return; // one swap of the tiles tells of itself once for each of its parts
  isFetching = true;
  fetchedAt = performance.now();
  try {
    map.show(await fetchJson(box.dataset.url));
  } catch (error) {
    console.warn(error); // tried again at the next tick
  } finally {
    isFetching = false;
  }
}

document.body.addEventListener("sw:tick", () => {
  if (performance.now() - fetchedAt > EVERY_MS - 500) refresh();
});
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  if (detail.target.id === "tiles") refresh();
});
refresh();
