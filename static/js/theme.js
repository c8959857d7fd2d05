/* Before the first paint: the theme that was chosen here, or that the link asks for. Without one the system decides. */
(() => {
  const asked = new URLSearchParams(location.search).get("theme");
  let stored = null;
  try {
    stored = localStorage.getItem("sw-theme");
  } catch {
    /* storage is closed to this page: the system's theme holds */
  }
  const theme = asked ?? stored;
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
