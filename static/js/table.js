/* Tables that are sorted here, by a heading's button or the address. Called by shell.js, also after each swap of rows. */

import { query, setQuery } from "./address.js";

/* Cells sort on data-v, else on their text. An unknown value (data-v="") stands last in either direction. */
function sortKey(row, column) {
  const cell = row.cells[column];
  const value = cell.dataset.v ?? cell.textContent.trim();
  return value === "" || Number.isNaN(Number(value)) ? value : Number(value);
}

function compare(a, b, sign) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return order * sign;
}

function sortBy(table, heading, descending) {
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = Array.from(table.tBodies[0].rows, (row) => [sortKey(row, heading.cellIndex), row]);
  rows.sort((a, b) => compare(a[0], b[0], descending ? -1 : 1));
  table.tBodies[0].append(...rows.map(([, row]) => row));
}

/* ?sort=-power sorts the table whose heading has data-k="power", largest first. */
export function applySort() {
  const wanted = query().get("sort");
  if (!wanted) return;
  const key = wanted.replace(/^-/, "");
  for (const table of document.querySelectorAll("table[data-sort]")) {
    const heading = table.querySelector(`th[data-k="${CSS.escape(key)}"]`);
    if (heading) sortBy(table, heading, wanted.startsWith("-"));
  }
}

export function sortByHeading(heading) {
  const current = heading.getAttribute("aria-sort");
  const descending = current ? current === "ascending" : heading.classList.contains("num");
  sortBy(heading.closest("table"), heading, descending);
  if (heading.dataset.k) setQuery({ sort: (descending ? "-" : "") + heading.dataset.k });
}
