/* The fleet page: its host map, fetched as columns: whenever the tiles changed, so that both tell the same, and else each 5 s.
   What training tells of the devices comes beside it, each minute. */

import { fetchChanged } from "../conditional.js";
import { HostMap } from "../hostmap.js";

const EVERY_MS = 5000;
const STANDING_MS = 60_000;
const box = document.getElementById("hostmap");
const failed = document.querySelector("[data-map-failed]");
const map = new HostMap(box);
const told = { map: { at: -Infinity, isBusy: false }, standing: { at: -Infinity, isBusy: false } };

async function refresh(turn, url, take) {
  if (turn.isBusy) return; // one swap of the tiles tells of itself once for each of its parts
  turn.isBusy = true;
  turn.at = performance.now();
  try {
    const answer = await fetchChanged(url);
    if (answer) take(answer);
    if (turn === told.map) failed.hidden = true;
  } catch (error) {
    console.warn(error);
    if (turn === told.map) failed.hidden = false; // what is drawn stays, and the next tick tries again
  } finally {
    turn.isBusy = false;
  }
}

const refreshMap = () => refresh(told.map, box.dataset.url, (columns) => map.show(columns));
const refreshStanding = () => refresh(told.standing, box.dataset.standing, (standing) => map.stand(standing));

document.body.addEventListener("sw:tick", () => {
  const now = performance.now();
  if (now - told.map.at > EVERY_MS - 500) refreshMap();
  if (now - told.standing.at > STANDING_MS) refreshStanding();
});
document.addEventListener("htmx:afterSwap", ({ detail }) => {
  if (detail.target.id === "tiles") refreshMap();
});
refreshMap();
refreshStanding();
