/* The page's address as its state: filters, metric, sorting and zoom stand in the query string, so that every view is a link.
   What changes the range or the zoom makes an entry of the history, all else writes over the present one. Whatever changed the
   address, the browser's Back among it, `sw:query` tells of it with the values that are new. */

export const query = () => new URLSearchParams(location.search);

let known = query();

function changed(values, params) {
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") params.delete(key);
    else params.set(key, value);
  }
  const text = params.toString();
  return location.pathname + (text ? `?${text}` : "") + location.hash;
}

function tell(values) {
  known = query();
  document.dispatchEvent(new CustomEvent("sw:query", { detail: values }));
}

/* What is asked for carries the zoomed window along, and how finely it is asked for; without a zoom the range of the page holds. */
export function carryWindow(params) {
  const now = query();
  for (const name of ["from", "to", "points"]) {
    if (now.has(name)) params.set(name, now.get(name));
    else params.delete(name);
  }
}

export function setQuery(values) {
  history.replaceState(null, "", changed(values, query()));
  tell(values);
}

export function pushQuery(values) {
  const before = location.pathname + location.search + location.hash;
  const after = changed(values, query());
  if (after !== before) history.pushState(null, "", after);
  tell(values);
}

/* A button with data-q="key=value" sets that parameter; one with data-q-default is chosen where none is set. */
export function reflect() {
  const params = query();
  for (const button of document.querySelectorAll("[data-q]")) {
    const [key, value] = button.dataset.q.split("=");
    const chosen = params.has(key) ? params.get(key) === value : "qDefault" in button.dataset;
    button.setAttribute("aria-pressed", String(chosen));
  }
}

addEventListener("popstate", () => {
  const now = query();
  const keys = new Set([...known.keys(), ...now.keys()]);
  const values = Object.fromEntries([...keys].filter((key) => known.get(key) !== now.get(key)).map((key) => [key, now.get(key)]));
  // What only the server can show another part of is asked for anew.
  if (["range", "cluster", "device"].some((key) => key in values)) location.reload();
  reflect();
  tell(values);
});
