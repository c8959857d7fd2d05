/* What the host map can be coloured by, and its columns: whole steps from the server become numbers, absent ones NaN. Pure. */

export const GAP = "\u202f";
const MINUS = "\u2212";
const PERCENT = { unit: "%", size: 0.01, low: 0, high: 1, lowLabel: `0${GAP}%`, highLabel: `100${GAP}%`, scale: "load" };

export const METRICS = {
  utilisation: { ...PERCENT, key: "gpu_utilization_ratio", label: "Utilisation" },
  tensor: { ...PERCENT, key: "tensor_active_ratio", label: "Tensor activity" },
  memory: { ...PERCENT, key: "memory_used_ratio", label: "Memory" },
  power: { key: "power_draw_watts", label: "Power", unit: "W", size: 1, low: 0, scale: "heat", lowLabel: `0${GAP}W` },
  temperature: { key: "temperature_celsius", label: "Temperature", unit: "°C", size: 1, low: 30, high: 90, lowLabel: `30${GAP}°C`, highLabel: `90${GAP}°C`, scale: "heat" },
  baseline: { key: "baseline", label: "vs baseline", unit: "%", size: 0.01, low: -0.08, high: 0.08, lowLabel: `${MINUS}8${GAP}% slower`, highLabel: `+8${GAP}% faster`, scale: "div", isSigned: true },
  health: { key: null, label: "Health" },
};

const NUMBER = new Intl.NumberFormat("en-GB", { maximumSignificantDigits: 3 });

export function figure(value, { size, unit, isSigned }) {
  if (value === null || Number.isNaN(value)) return "—";
  const shown = NUMBER.format(value / size).replace("-", MINUS);
  return `${isSigned && value > 0 ? "+" : ""}${shown}${GAP}${unit}`;
}

/* The metric as it is drawn of this data: power ends at the greatest limit, beyond which a whole node may lie. */
export function metricOf(name, data) {
  const chosen = METRICS[name] ?? METRICS.utilisation;
  if (chosen !== METRICS.power) return chosen;
  const high = data.power ?? 1;
  return { ...chosen, high, highLabel: figure(high, chosen) + (data.isBeyond ? " and more" : "") };
}

function column(whole, steps) {
  const values = new Float32Array(whole.length);
  for (let i = 0; i < whole.length; i++) values[i] = whole[i] === null ? NaN : whole[i] / steps;
  return values;
}

/* The server's columns (telemetry/views/fleet_map.py), ready to be drawn. */
export function readColumns({ hosts, devices, words, steps, values, power_scale_watts: power }) {
  const watts = values.power_draw_watts;
  const note = new Map(devices.noted[0].map((position, i) => [position, words.note[devices.noted[1][i]]]));
  return {
    hosts,
    power,
    isBeyond: power !== null && watts.some((whole) => whole !== null && whole / steps.power_draw_watts > power),
    id: devices.id,
    health: devices.health.map((code) => words.health[code]),
    title: (i) => words.title[devices.title[i]],
    model: (i) => words.model[devices.model[i]],
    note: (i) => note.get(i) ?? "",
    values: Object.fromEntries(Object.entries(values).map(([key, whole]) => [key, column(whole, steps[key])])),
    run: () => "",
  };
}

/* Add what training tells of the devices (training/views/standing.py). */
export function addStanding(data, { deviation, run }) {
  const ratio = new Map(deviation.id.map((id, i) => [id, deviation.ratio[i]]));
  const names = new Map(run.id.map((id, i) => [id, run.name[i]]));
  data.values.baseline = Float32Array.from(data.id, (id) => ratio.get(id) ?? NaN);
  data.run = (i) => names.get(data.id[i]) ?? "";
}

export function mean(values, first, n) {
  let sum = 0;
  let known = 0;
  for (let i = first; i < first + n; i++) {
    if (Number.isNaN(values[i])) continue;
    sum += values[i];
    known += 1;
  }
  return known ? sum / known : null;
}
