/* Whether somebody presses something, or is about to. Under a press nothing of the page is moved or replaced: the click would be
   lost with what was pressed, or fall on what came into its place, and a drag over a chart would zoom to other times. Nor is
   anything moved that a pointer moves towards: a list that is ordered anew would have it press another row's button.

   What comes meanwhile waits: answers of htmx (here), fragments (fresh.js), drawings (chart.js). What the person asked for by a
   press waits for the press alone. */

const AIMING_MS = 1000; // after the last movement over a control: a pointer that rests does not aim
const CONTROLS = "main :is(a, button, label, summary)";
const TOUCH_MS = 100; // from a finger's leaving to its click
const waiting = new Map(); // key → {deed, waitsForAim}
let isOn = false;
let aim = null; // the timer of its end

export const isPressed = () => isOn;

function hold(deed, key, waitsForAim) {
  if (isOn || (aim && waitsForAim)) waiting.set(key, { deed, waitsForAim });
  else deed();
}

/* Do it once nothing is pressed, of several deeds of one key the last. */
export const whenReleased = (deed, key = deed) => hold(deed, key, false);

/* Do it once nothing is pressed nor aimed at. */
export const whenStill = (deed, key = deed) => hold(deed, key, true);
export const still = () => new Promise((resolve) => whenStill(resolve));

function goOn() {
  for (const [key, { deed, waitsForAim }] of [...waiting]) {
    if (isOn || (aim && waitsForAim)) continue;
    waiting.delete(key);
    deed();
  }
}

function release() {
  isOn = false;
  goOn();
}

function endAim() {
  clearTimeout(aim);
  aim = null;
  goOn();
}

function moved({ buttons, pointerType, target }) {
  if (isOn && !buttons) release(); // it was let go of where nobody told
  if (pointerType === "touch" || !target.closest?.(CONTROLS)) return;
  clearTimeout(aim);
  aim = setTimeout(endAim, AIMING_MS);
}

function pressed({ button, target }) {
  if (button === 0 && !target.closest?.("select, option")) isOn = true; // the browser's own list keeps the release to itself
}

/* A button is pressed by the space bar from its going down to its coming up. */
function keyed({ key, target }) {
  if (key === " " && target.closest?.("button, summary, label, input:is([type=checkbox], [type=radio])")) isOn = true;
}

/* The click follows at once, in the same task, that of a finger in one of its own. */
function released({ pointerType, key }) {
  if (pointerType || key === " ") setTimeout(release, pointerType === "touch" ? TOUCH_MS : 0);
}

const ASKS_BY_PRESS = ["click", "submit"];

/* An answer is taken as soon as it may be: until then htmx has its request still running, and others queue behind it. */
function answersWait({ detail: { xhr, requestConfig } }) {
  const wait = ASKS_BY_PRESS.includes(requestConfig.triggeringEvent?.type) ? whenReleased : whenStill;
  for (const name of ["onload", "onerror", "ontimeout"]) {
    const take = xhr[name];
    xhr[name] = (event) => wait(() => take.call(xhr, event), xhr);
  }
}

addEventListener("pointerdown", pressed, true);
addEventListener("pointermove", moved, { capture: true, passive: true });
addEventListener("keydown", keyed, true);
for (const name of ["pointerup", "keyup"]) addEventListener(name, released, true);
for (const name of ["pointercancel", "contextmenu", "blur"]) addEventListener(name, release);
document.addEventListener("htmx:beforeSend", answersWait);
