/* The events page: an alert's evidence, once opened, stays open while the list is refreshed. */

const opened = new Set();

document.addEventListener(
  "toggle",
  ({ target }) => {
    if (!target.matches("details.proof")) return;
    if (target.open) opened.add(target.id);
    else if (target.isConnected) opened.delete(target.id);
  },
  true,
);
document.addEventListener("htmx:afterSwap", () => {
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
});
