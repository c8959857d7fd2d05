/* What charts show, as a table: <details data-chart-table="id id …"> is filled when it is opened, and stays as it was then.
   A row a bucket or step, a column an entry of a legend; of entries that stand for several lines the least and the greatest value. */

import { format, spanAt } from "./legend.js";

const MOMENT = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" };

const make = (tag, text, options = {}) => Object.assign(document.createElement(tag), { textContent: text }, options);

function columnsOf(charts) {
  return charts.flatMap((chart) => chart.entries.map((entry) => ({ chart, entry, title: `${chart.title} ${entry.label}`, unit: chart.unit })));
}

function row(columns, at, words) {
  const cells = columns.map(({ chart, entry, unit: [size] }) => {
    const span = spanAt(chart, entry, at);
    return make("td", span ? [...new Set(span.map((value) => format(value / size)))].join("–") : "—", { className: "num" });
  });
  const line = document.createElement("tr");
  line.append(make("th", words, { scope: "row" }), ...cells);
  return line;
}

export function fillTable(box, charts) {
  const drawn = charts.filter((chart) => chart.traces);
  const columns = columnsOf(drawn);
  const [first] = drawn;
  const grids = first?.traces.filter((_, index) => first.figure.data[index].fill !== "toself").map(({ x }) => x) ?? [];
  const times = grids.reduce((most, x) => (x.length > most.length ? x : most), []);
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  head.append(make("th", first?.isTime === false ? "Step" : "Time", { scope: "col" }), ...columns.map(({ title, unit }) => make("th", unit[1] ? `${title}, ${unit[1]}` : title, { scope: "col", className: "num" })));
  const body = table.createTBody();
  for (const at of times) body.append(row(columns, at, first.isTime ? new Date(at).toLocaleString("en-GB", MOMENT) : format(at)));
  box.replaceChildren(table);
}
