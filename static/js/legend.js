/* Legends in HTML: each entry shows its trace's value at the crosshair, else the newest one. Called by chart.js. */

const RECENT = 4; // buckets; the last two may still be on their way

const SMALL = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });
const LARGE = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

export function format(value) {
  return (Math.abs(value) < 1000 ? SMALL : LARGE).format(value).replace("-", "\u2212");
}

export function buildLegend(chart) {
  const box = document.querySelector(`[data-legend="${chart.id}"]`);
  chart.entries = [];
  if (!box) return;
  box.replaceChildren();
  for (const entry of chart.figure.layout.meta?.legend ?? []) {
    const [line, swatch, value] = ["span", "i", "b"].map((tag) => document.createElement(tag));
    swatch.className = entry.shape === "line" ? "" : entry.shape;
    swatch.style.setProperty("--c", `var(--${entry.color.replace("token:", "")})`);
    line.append(swatch, entry.label, value);
    box.append(line);
    chart.entries.push({ ...entry, value });
  }
}

/* The value of a trace at `at` (null: its newest); null in a gap. A trace may carry its own values as customdata.
   On a live time grid the newest is one of the last few: what was measured longer ago is not carried on. */
function valueAt(chart, index, at) {
  const { x, y, customdata } = chart.traces[index];
  const values = customdata ?? y;
  if (at !== null) return isWithin(x, at) ? (values[nearest(x, at)] ?? null) : null;
  const recent = chart.source?.fetchesWindow ? values.slice(-RECENT) : values;
  return recent.findLast((value) => value !== null) ?? null;
}

/* Tell whether a line has come that far, or has begun: beyond its ends nothing is known. */
function isWithin(xs, at) {
  const [first, last] = [xs[0], xs.at(-1)];
  const step = xs.length > 1 ? (last - first) / (xs.length - 1) : 0;
  return at >= first - step && at <= last + step;
}

export function nearest(xs, at) {
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= at) low = middle;
    else high = middle;
  }
  return at - xs[low] < xs[high] - at ? low : high;
}

/* The least and the greatest value of an entry's traces at `at` (null: their newest), null where none has any. */
export function spanAt(chart, entry, at) {
  const values = entry.traces.map((index) => valueAt(chart, index, at)).filter((value) => value !== null);
  return values.length ? [Math.min(...values), Math.max(...values)] : null;
}

export function readout(chart, at) {
  const [size, unit] = chart.unit;
  for (const entry of chart.entries) {
    const span = spanAt(chart, entry, at);
    const words = span ? [...new Set(span.map((value) => format(value / size)))].join("–") + (unit ? `\u202f${unit}` : "") : "—";
    if (entry.value.textContent !== words) entry.value.textContent = words;
  }
}
