/* The launch form: the host filter, and the workload in the address. All else is the server's (htmx) or the form's. */

import { query, setQuery } from "../shell.js";

const form = document.getElementById("launch");
const rows = () => Array.from(form.querySelectorAll(".picker label")); // the server looks for more of them in a large fleet
const filter = form.querySelector("[data-filter]");
const none = form.querySelector("[data-none]");

/* A chosen host stays in sight: what is started must be seen. */
function show() {
  const words = (query().get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows()) {
    const text = row.textContent.toLowerCase();
    row.hidden = !row.control.checked && !words.every((word) => text.includes(word));
  }
  if (none) none.hidden = rows().some((row) => !row.hidden);
}

form.querySelector("[data-needs-script]").hidden = rows().length === 0;
form.addEventListener("change", (event) => event.target.name === "workload" && setQuery({ workload: event.target.value }));
document.addEventListener("sw:query", show);
document.addEventListener("htmx:afterSwap", show);
filter.addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault()); // Enter filters, it does not launch
show();
