/* Work that takes long is done in slices: between two of them the page answers to keys and pointer, and is painted. */

const SLICE_MS = 12; // with what is painted after it well below the 50 ms from which a task is felt

const later = () => (window.scheduler?.yield ? window.scheduler.yield() : new Promise((resolve) => setTimeout(resolve)));

/* Returns what is awaited between two pieces of work: it lets the page go on once the slice is used up. */
export function slices() {
  let began = performance.now();
  return async () => {
    await null; // uPlot draws what it was given in a microtask
    if (performance.now() - began < SLICE_MS) return;
    await later();
    began = performance.now();
  };
}
