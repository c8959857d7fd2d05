/* The page of a ladder: its chart is asked for as long as the ladder runs, and once more when it has ended. */

const chart = document.getElementById("ladder-chart");
document.addEventListener("htmx:afterSettle", () => {
  if ("final" in document.getElementById("ladder").dataset) setTimeout(() => delete chart.dataset.arrays, 5000); // the last values come after the state
});
