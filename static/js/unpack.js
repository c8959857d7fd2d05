/* What comes packed becomes arrays: a time grid {"first", "step", "n"}, and a trace's {"rises", "step"}, whose values are whole
   steps, each told as its rise over the last known one (telemetry/charts/traces.py). Null is a gap. */

export function grid(x) {
  if (!x || Array.isArray(x)) return x;
  const moments = new Array(x.n);
  for (let i = 0; i < x.n; i++) moments[i] = x.first + i * x.step;
  return moments;
}

export function unpacked({ rises, step, ...trace }) {
  if (!rises) return trace;
  const y = [];
  let whole = 0;
  for (const rise of rises) {
    if (rise !== null) whole += rise;
    y.push(rise === null ? null : whole * step);
  }
  return { ...trace, y };
}

/* A trace with the least and the greatest of its values, `null` where it has none: read once, asked for by axes and units. */
export function measured(trace) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of trace.y) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return { ...trace, span: high >= low ? [low, high] : null };
}
