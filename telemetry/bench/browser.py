"""What a browser takes for a page: Chromium without a window, by Playwright, a cold cache each time. Called by bench/pages.py.

Times are those of the browser's own clock: largest contentful paint and marks from the start of the navigation, the main
thread's from the tasks that Chromium counts. Nothing is throttled; both are the tests' requirements, not the product's.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from telemetry.bench.figure import BenchFailed
from telemetry.bench.peer import Peer

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync")  # fmt: skip
_SIZE = {"width": 1440, "height": 1100}
_WAIT_MS = 30_000
_WORDS = 400  # of a page that is not as it should be
_SETTLE_SECONDS = 2.0
_PAINT = """() => new Promise((resolve) => new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
    .observe({type: "largest-contentful-paint", buffered: true}))"""
_MARK = """(most) => new Promise((resolve) => {
    const look = () => {
        const [mark] = performance.getEntriesByName("charts-painted");
        if (mark || performance.now() > most) resolve(mark?.startTime ?? null);
        else setTimeout(look, 20);
    };
    look();
})"""
_BETWEEN_TICKS = """(ms) => new Promise((resolve) =>
    document.body.addEventListener("sw:tick", () => setTimeout(resolve, ms), {once: true}))"""
# Reading a pixel back makes the browser finish what it has put off.
_REDRAWS = """(metrics) => metrics.map((metric) => {
    const context = document.querySelector("#hostmap canvas").getContext("2d");
    context.getImageData(0, 0, 1, 1);
    const began = performance.now();
    document.querySelector(`[data-q="metric=${metric}"]`).click();
    context.getImageData(0, 0, 1, 1);
    return performance.now() - began;
})"""


class Chromium:
    """A running browser, signed in to one server with its session."""

    def __init__(self, browser: Any, web: Peer, session: str) -> None:
        self._browser, self.origin, self._session = browser, f"http://127.0.0.1:{web.port}", session

    @contextmanager
    def page(self) -> Iterator[Any]:
        """Yield a page in a profile of its own: nothing is in its cache."""
        context = self._browser.new_context(viewport=_SIZE)
        context.add_cookies([{"name": "sessionid", "value": self._session, "url": self.origin}])
        try:
            yield context.new_page()
        finally:
            context.close()

    def largest_paint_ms(self, path: str) -> float:
        with self.page() as page:
            page.goto(self.origin + path, wait_until="load")
            page.wait_for_timeout(1000 * _SETTLE_SECONDS)
            return float(page.evaluate(_PAINT))

    def charts_painted_ms(self, path: str) -> float:
        """Return when the last chart of the page was painted, after the navigation began."""
        with self.page() as page:
            page.goto(self.origin + path, wait_until="commit")
            painted_at = page.evaluate(_MARK, _WAIT_MS)
            if painted_at is None:
                shown = page.inner_text("main")[-_WORDS:]
                raise BenchFailed(f"{path}: its charts were not painted; the page ends with {shown!r}")
            return float(painted_at)

    def transferred_bytes(self, path: str, without: str) -> int:
        """Return what came over the wire for the first view, headers included, apart from addresses that hold `without`."""
        sizes: dict[str, int] = {}
        urls: dict[str, str] = {}
        with self.page() as page:
            link = page.context.new_cdp_session(page)
            link.send("Network.enable")
            link.on(
                "Network.requestWillBeSent", lambda event: urls.update({event["requestId"]: event["request"]["url"]})
            )
            link.on("Network.loadingFinished", lambda e: sizes.update({e["requestId"]: int(e["encodedDataLength"])}))
            page.goto(self.origin + path, wait_until="load")
            page.wait_for_timeout(1000 * _SETTLE_SECONDS)
        return sum(size for request, size in sizes.items() if without not in urls.get(request, ""))

    def redraws_ms(self, path: str, metrics: list[str], rounds: int) -> list[float]:
        """Return the time from the click on a metric until its map stands on the canvas."""
        with self.page() as page:
            page.goto(self.origin + path, wait_until="load")
            page.wait_for_selector("#hostmap canvas[data-drawn]", timeout=_WAIT_MS)
            page.wait_for_timeout(1000 * _SETTLE_SECONDS)
            page.evaluate(_REDRAWS, metrics)  # the first of each reads its colours
            return [ms for _ in range(rounds) for ms in page.evaluate(_REDRAWS, metrics)]

    def live_ms(self, path: str, ticks: int, tick_seconds: float) -> list[float]:
        """Return the main thread's work from each tick of a page that stays open to the next one."""
        with self.page() as page:
            page.goto(self.origin + path, wait_until="load")
            page.wait_for_timeout(5000 * _SETTLE_SECONDS)
            link = page.context.new_cdp_session(page)
            # What it works, not what it waits for a core.
            link.send("Performance.enable", {"timeDomain": "threadTicks"})
            busy = []
            for _ in range(ticks + 1):
                page.evaluate(_BETWEEN_TICKS, 500 * tick_seconds)
                busy.append(_task_seconds(link))
        return [1000 * (after - before) for before, after in pairwise(busy)]


def _task_seconds(link: Any) -> float:
    found = {metric["name"]: metric["value"] for metric in link.send("Performance.getMetrics")["metrics"]}
    return float(found["TaskDuration"])


@contextmanager
def chromium(web: Peer, session: str) -> Iterator[Chromium]:
    """Yield the browser. Raises BenchFailed where Chromium or Playwright is missing."""
    program = shutil.which("chromium")
    if program is None:
        raise BenchFailed("chromium is not installed")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise BenchFailed("playwright is not installed (tests/requirements.txt)") from error
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_FLAGS))
        try:
            yield Chromium(browser, web, session)
        finally:
            browser.close()
