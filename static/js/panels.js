/* What a panel says that could not be refreshed: the page goes on, the panel tells since when it shows old figures, and why.

   A panel that was never read offers to try again; it is an element with hx-get that loads by itself. */

const readAt = new WeakMap();
const clock = (moment) => moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const boxOf = (element) => element.closest(".panel, .tiles") ?? element;

function why({ xhr }) {
  return xhr?.status ? `the server answered ${xhr.status}` : "the server was not reached";
}

function tell(event) {
  const { elt, requestConfig } = event.detail;
  if (requestConfig?.verb !== "get" || !elt.closest("main")) return;
  const box = boxOf(elt);
  box.querySelector(":scope > .unread")?.remove();
  const note = document.createElement("p");
  note.className = "unread";
  note.setAttribute("role", "status");
  const isNew = elt.getAttribute("hx-trigger")?.startsWith("load") && !readAt.has(elt);
  note.textContent = isNew ? `This panel could not be read: ${why(event.detail)}. ` : `Not refreshed since ${clock(readAt.get(elt) ?? new Date())}: ${why(event.detail)}.`;
  if (!readAt.has(elt)) readAt.set(elt, new Date());
  if (isNew) note.append(again(elt));
  box.append(note);
}

function again(elt) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn tiny";
  button.textContent = "Try again";
  button.addEventListener("click", () => {
    readAt.delete(elt);
    window.htmx.ajax("GET", elt.getAttribute("hx-get"), { source: elt, target: elt, swap: elt.getAttribute("hx-swap") ?? "innerHTML" });
  });
  return button;
}

for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) document.addEventListener(name, tell);
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (!detail.successful) return;
  readAt.set(detail.elt, new Date());
  boxOf(detail.elt).querySelector(":scope > .unread")?.remove();
});
