/* The live page of a reference job: follows the log, says a change of state aloud, ends the chart's fetching with the job. */

const log = document.getElementById("job-log");
const follow = document.querySelector("[data-follow]");
const announce = document.getElementById("job-announce");
const follows = () => follow.getAttribute("aria-pressed") === "true";
let said = document.getElementById("job-live").dataset.announce;

function toEnd() {
  if (follows()) log.scrollTop = log.scrollHeight;
}

/* A live region must stay in place to be read out, so it stands outside what is swapped, and changes only with the words. */
function say(live) {
  if (live.dataset.announce === said) return;
  said = live.dataset.announce;
  announce.textContent = said;
}

follow.addEventListener("click", () => {
  follow.setAttribute("aria-pressed", String(!follows()));
  toEnd();
});

/* Scrolling up is reading: the log stops following; at its end it follows again. */
log.addEventListener("scroll", () => {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  if (follows() !== isAtEnd) follow.setAttribute("aria-pressed", String(isAtEnd));
});

document.addEventListener("htmx:oobAfterSwap", toEnd);
document.addEventListener("htmx:afterSettle", () => {
  const live = document.getElementById("job-live");
  say(live);
  if ("final" in live.dataset) setTimeout(() => delete document.getElementById("step-chart").dataset.arrays, 5000); // the last steps come after the state
});
toEnd();
