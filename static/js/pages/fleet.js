/* The fleet page: its host map, fetched as columns: whenever the tiles changed, so that both tell the same, and else each 5 s.
   What training tells of the devices comes beside it, each minute. */

import { fetchChanged } from "../conditional.js";
import { HostMap } from "../hostmap.js";
import { still } from "../press.js";
import { ask, takeTurns } from "../turns.js";

const EVERY_SECONDS = 5;
const STANDING_SECONDS = 60;
const box = document.getElementById("hostmap");
const failed = document.querySelector("[data-map-failed]");
const map = new HostMap(box);

async function refreshMap() {
  let isRead = false;
  try {
    const columns = await fetchChanged(box.dataset.url);
    await still();
    if (columns) map.show(columns);
    isRead = true;
  } finally {
    failed.hidden = isRead; // what is drawn stays, and the next turn tries again
  }
}

async function refreshStanding() {
  const standing = await fetchChanged(box.dataset.standing);
  if (standing) map.stand(standing);
}

const cells = takeTurns(() => EVERY_SECONDS, refreshMap);
const standing = takeTurns(() => STANDING_SECONDS, refreshStanding);
document.getElementById("tiles").addEventListener("sw:fresh", () => document.hidden || ask(cells));
ask(cells);
ask(standing);
