/* The fleet page: its host map, fetched as columns and again on every third tick (a batch comes each 5 s). */

import { HostMap } from "../hostmap.js";
import { fetchJson } from "../shell.js";

const EVERY_MS = 5000;
const box = document.getElementById("hostmap");
const map = new HostMap(box);
let fetchedAt = -Infinity;

async function refresh() {
  if (performance.now() - fetchedAt < EVERY_MS - 500) return;
  fetchedAt = performance.now();
  try {
    map.show(await fetchJson(box.dataset.url));
  } catch (error) {
    console.warn(error); // tried again at the next tick
  }
}

document.body.addEventListener("sw:tick", refresh);
refresh();
