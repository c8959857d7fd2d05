/* The page's address as its state: filters, metric, sorting and zoom stand in the query string, so that every view is a link. */

export const query = () => new URLSearchParams(location.search);

export function setQuery(values) {
  const params = query();
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === "") params.delete(key);
    else params.set(key, value);
  }
  const text = params.toString();
  history.replaceState(null, "", location.pathname + (text ? `?${text}` : "") + location.hash);
  document.dispatchEvent(new CustomEvent("sw:query", { detail: values }));
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
