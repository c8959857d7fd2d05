/* Parts of the page that are kept fresh: an element with data-fresh="url" asks for its newest markup at each tick, or each
   data-every="s" seconds, with data-first also at once. Elements of the answer that bear an id become the page's of that id; an
   answer without any is what the asking element holds. Only what differs is touched (morph.js), and `sw:fresh` tells of it.

   htmx does the same for what is asked for now and then; at each tick its requests and swaps took most of the main thread's time. */

import { fetchChanged, HTML } from "./conditional.js";
import { morph, morphContent } from "./morph.js";
import { read, tell } from "./panels.js";
import { still } from "./press.js";
import { times } from "./shell.js";
import { EACH_TIME, ask, leave, takeTurns } from "./turns.js";

const frame = document.createElement("template");

function take(box, text) {
  frame.innerHTML = text;
  const parts = [...frame.content.children].filter(({ id }) => id && document.getElementById(id));
  if (!parts.length) morphContent(box, frame.content);
  for (const part of parts) morph(document.getElementById(part.id), part);
  for (const part of parts.length ? parts.map(({ id }) => document.getElementById(id)) : [box]) times(part);
  box.dispatchEvent(new CustomEvent("sw:fresh", { bubbles: true }));
}

async function refresh(box, turn) {
  if (!box.isConnected) return leave(turn);
  try {
    const text = await fetchChanged(box.dataset.fresh, HTML);
    await still();
    if (text !== null) take(box, text);
    read(box);
  } catch (error) {
    await still();
    tell(box, "first" in box.dataset, error.status ? `the server answered ${error.status}` : "the server was not reached", () => ask(turn));
    throw error;
  } finally {
    box.removeAttribute("aria-busy");
  }
}

for (const box of document.querySelectorAll("[data-fresh]")) {
  const turn = takeTurns(() => Number(box.dataset.every ?? EACH_TIME), () => refresh(box, turn));
  turn.at = performance.now(); // it came with the page
  if (!("first" in box.dataset)) continue;
  box.setAttribute("aria-busy", "true");
  ask(turn);
}
