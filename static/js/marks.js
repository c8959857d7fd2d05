/* Marks on the time axis of charts: what happened at a moment or over a span (an XID, throttling, another driver, a reference
   job). {"at", "until" (null: a moment), "label", "tone" (a token), "charts" (ids; null: all)}, times in UTC milliseconds. */

const FONT = 10.5;
const LABEL_PIXELS = 110; // a label this near to the one before would lie upon it
const LATE = 0.7; // of the axis: from here on a label stands before its mark

function shape({ at, until, tone }) {
  const ends = { yref: "paper", y0: 0, y1: 1 };
  if (until === null) return { type: "line", ...ends, x0: at, x1: at, line: { color: `token:${tone}`, width: 1, dash: "dot" } };
  return { type: "rect", ...ends, layer: "below", x0: at, x1: until, fillcolor: `token:${tone}/0.13`, line: { width: 0 } };
}

function label({ at, tone, label: text }, isLate) {
  return {
    text,
    x: at,
    yref: "paper",
    y: 1,
    xanchor: isLate ? "right" : "left",
    yanchor: "top",
    xshift: isLate ? -5 : 4,
    showarrow: false,
    bgcolor: "token:surface/0.7",
    font: { size: FONT, color: `token:${tone}` },
  };
}

/* The chart's shapes and annotations with those of its marks; labels of marks of all charts stand on the first one alone. */
export function withMarks(chart, { shapes, annotations }) {
  const window_ = chart.window();
  if (!window_ || !chart.isTime) return { shapes, annotations };
  const [start, end] = window_;
  const seen = chart.marks().filter(({ at, until, charts }) => (until ?? at) >= start && at <= end && (!charts || charts.includes(chart.id)));
  const labels = [];
  let last = -Infinity;
  for (const mark of seen.filter(({ charts }) => charts || chart.isFirst).sort((a, b) => a.at - b.at)) {
    const at = Math.max(start, mark.at);
    const share = (at - start) / (end - start);
    const pixel = share * chart.width;
    if (pixel - last < LABEL_PIXELS) continue;
    last = pixel;
    labels.push(label({ ...mark, at }, share > LATE));
  }
  return { shapes: [...shapes, ...seen.map(shape)], annotations: [...annotations, ...labels] };
}
