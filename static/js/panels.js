/* What a panel says that could not be refreshed: the page goes on, the panel tells since when it shows old figures, and why.

   A panel that was never read offers to try again; it is an element that loads by itself, with htmx or fresh.js. */

const readAt = new WeakMap();
const clock = (moment) => moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
const boxOf = (element) => element.closest(".panel, .tiles") ?? element;
const noteIn = (element) => boxOf(element).querySelector(":scope > .unread");

/* Say that the element's fragment did not come, where the page shows one; `again` asks once more. */
export function tell(element, loadsItself, why, again) {
  if (!element.closest("main")) return;
  noteIn(element)?.remove();
  const note = document.createElement("p");
  note.className = "unread";
  note.setAttribute("role", "status");
  const isNew = loadsItself && !readAt.has(element);
  note.textContent = isNew ? `This panel could not be read: ${why}. ` : `Not refreshed since ${clock(readAt.get(element) ?? new Date())}: ${why}.`;
  if (!readAt.has(element)) readAt.set(element, new Date());
  if (isNew) note.append(button(element, again));
  boxOf(element).append(note);
}

/* The element's fragment came. */
export function read(element) {
  readAt.set(element, new Date());
  noteIn(element)?.remove();
}

function button(element, again) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "btn tiny";
  made.textContent = "Try again";
  made.addEventListener("click", () => {
    readAt.delete(element);
    again();
  });
  return made;
}

/* Panels of htmx ----------------------------------------------------------------------------------------------------- */

function failed({ detail: { elt, requestConfig, xhr } }) {
  if (requestConfig?.verb !== "get") return;
  const why = xhr?.status ? `the server answered ${xhr.status}` : "the server was not reached";
  tell(elt, elt.getAttribute("hx-trigger")?.startsWith("load"), why, () =>
    window.htmx.ajax("GET", elt.getAttribute("hx-get"), { source: elt, target: elt, swap: elt.getAttribute("hx-swap") ?? "innerHTML" }),
  );
}

for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) document.addEventListener(name, failed);
document.addEventListener("htmx:afterRequest", ({ detail }) => detail.successful && read(detail.elt));
