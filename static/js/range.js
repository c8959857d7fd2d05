/* The custom time range, and what the page says of the time that it shows ([data-range-words], which hold the words of the named
   range): from and to by the viewer's clock, in the address as UTC milliseconds. The page is asked for anew, as
   with a named range, so that the browser's Back leads to the range before. */

import { query } from "./address.js";

const box = document.querySelector("[data-custom-range]");
const form = box.querySelector("form");
const words = box.querySelector("[data-custom-words]");
const wrong = box.querySelector("[data-custom-wrong]");

const two = (n) => String(n).padStart(2, "0");
const field = (ms) => {
  const at = new Date(ms);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
};
const short = (ms) => new Date(ms).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

function chosen() {
  const params = query();
  return params.has("from") && params.has("to") ? [Number(params.get("from")), Number(params.get("to"))] : null;
}

function show() {
  const window_ = chosen();
  const chosenWords = window_?.map(short).join(" – ");
  words.textContent = chosenWords ?? "Custom";
  for (const each of document.querySelectorAll("[data-range-words]")) each.textContent = chosenWords ?? each.dataset.rangeWords;
  const [from, to] = window_ ?? [Date.now() - 3_600_000, Date.now()];
  form.elements.from.value = field(from);
  form.elements.to.value = field(to);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const [from, to] = ["from", "to"].map((name) => new Date(form.elements[name].value).getTime());
  wrong.hidden = from < to;
  if (!(from < to)) return;
  const params = query();
  params.set("from", from);
  params.set("to", to);
  location.assign(`?${params}`);
});
document.addEventListener("sw:query", ({ detail }) => ("from" in detail || "to" in detail) && show());
show();
