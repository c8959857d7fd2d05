/* Whether somebody drags over a chart. What would be drawn meanwhile waits: under a drag nothing moves, so that the zoom becomes
   that of the times at which it was begun and ended, and the drawing in which it was begun is there when it ends. */

const waiting = new Map();
let isOn = false;

export const isDragged = () => isOn;

/* Have the latest deed of a chart wait until the drag is over; returns false where there is none, and nothing waits. */
export function waits(chart, deed) {
  if (isOn) waiting.set(chart, deed);
  return isOn;
}

function end() {
  isOn = false;
  const deeds = [...waiting.values()];
  waiting.clear();
  deeds.forEach((deed) => deed());
}

document.addEventListener("pointerdown", ({ button, target }) => {
  end();
  isOn = button === 0 && target.closest(".chart[data-figure]") !== null;
});
// The painters take their zoom from the mouse's event, which follows the pointer's at once.
for (const name of ["pointerup", "pointercancel"]) window.addEventListener(name, () => setTimeout(end));
