"""Lighthouse, desktop preset, on the fleet, host, run and reference pages: `make lighthouse`. Exit status 1 below 95 anywhere.

The fleet is that of the pictures (screenshots.py): simulated, with a past and live, and a reference job has run on this machine.
Lighthouse comes from npm: an installed `lighthouse`, else `npx`. It works in a Chromium that has signed in, by its debugging
port, so that it sees what people see; its cache is empty each time. A page's score is the median of several runs, which begin
when the product is done with what was seeded: from then on the live fleet takes a few per cent of a core.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from playwright.sync_api import sync_playwright

from tests import seeded
from tests.e2e.conftest import FLAGS
from tests.e2e.test_every_page import SETTINGS
from tests.ports import free_port
from tests.process.traces import wait_until
from tests.programs import require
from tests.screenshots import living, n_silent, sign_in
from tests.stack import Stack, start_stack

PAGES = ("fleet", "host", "run", "reference", "job")
CATEGORIES = ("performance", "accessibility", "best-practices")
LEAST = 0.95
RUNS = 3
SETTLED = 0.3  # cores
_VERSION = "12.8.2"
_TIMES = (
    "first-contentful-paint",
    "largest-contentful-paint",
    "speed-index",
    "total-blocking-time",
    "cumulative-layout-shift",
)
_MOST_SECONDS = 240

Report = Mapping[str, Any]


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, start_stack(Path(directory), **SETTINGS) as stack:
        paths = _seeded(stack)
        with living(stack), _signed_in_browser(stack, Path(directory) / "profile") as port:
            wait_until(lambda: n_silent(stack) == 0, 180, "all simulated hosts to report")
            wait_until(lambda: _busy_cores() < SETTLED, 300, "the product to be done with what was seeded")
            print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
            scores = [_judged(stack.url + paths[name], name, port, Path(directory)) for name in PAGES]
    return int(any(score < LEAST for of_page in scores for score in of_page))


def _seeded(stack: Stack) -> dict[str, str]:
    """Return the pages by their names, once there is something to see on them."""
    seeded.seed(stack, seeded.LARGE, seconds=1200, recorded_nodes=8)
    ran = stack.manage("reference", "gpt-train", "--host", seeded.own_host(stack), "--param", "steps=40", "--wait")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    client = stack.signed_in()
    try:
        (job,) = client.get("/api/v1/reference/jobs").json()["items"]
        return seeded.pages(client) | {"job": f"/reference/{job['id']}/"}
    finally:
        client.close()


def _busy_cores(seconds: float = 5.0) -> float:
    """Return how many cores this process's children, and theirs, kept busy for so long."""
    before = _cpu_seconds()
    time.sleep(seconds)
    after = _cpu_seconds()
    return sum(spent - before.get(process, 0.0) for process, spent in after.items()) / seconds


def _cpu_seconds() -> dict[psutil.Process, float]:
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            found[process] = sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue  # it ended meanwhile
    return found


@contextmanager
def _signed_in_browser(stack: Stack, profile: Path) -> Iterator[int]:
    """Yield the debugging port of a browser whose only profile is signed in."""
    port = free_port()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=require("chromium"), args=[*FLAGS, f"--remote-debugging-port={port}"],
            base_url=stack.url,
        )  # fmt: skip
        sign_in(context.pages[0], stack)
        context.pages[0].goto("about:blank")  # else it would go on asking beside the page that is judged
        yield port
        context.close()


def _judged(url: str, name: str, port: int, directory: Path) -> list[float]:
    """Print what Lighthouse says of a page; return its scores, 0 where it could not tell."""
    reports = [found for turn in range(RUNS) if (found := _report(url, port, directory / f"{name}-{turn}.json"))]
    if len(reports) <= RUNS // 2:
        print(f"{name:10} Lighthouse could not tell in {RUNS - len(reports)} of {RUNS} runs")
        return [0.0]
    scores = [median(_score(report, category) for report in reports) for category in CATEGORIES]
    words = [f"{key} {100 * score:.0f}" for key, score in zip(CATEGORIES, scores, strict=True)]
    print(f"{name:10}", *words, *_times(reports), f"({len(reports)} runs)", flush=True)
    return scores


def _report(url: str, port: int, file: Path) -> Report | None:
    """Return what one run found; None, and why on the screen, where it found nothing."""
    own = shutil.which("lighthouse")
    program = [own] if own else [require("npx"), "--yes", f"lighthouse@{_VERSION}"]
    options = [
        f"--port={port}", "--preset=desktop", f"--only-categories={','.join(CATEGORIES)}", "--output=json",
        f"--output-path={file}", "--quiet",
    ]  # fmt: skip
    ended = subprocess.run([*program, url, *options], check=False, timeout=_MOST_SECONDS)
    found: Report = json.loads(file.read_text()) if file.exists() else {}
    error = found.get("runtimeError", {}).get("code", "") if found else f"exit status {ended.returncode}"
    if error:
        print(f"{url}: {error}")
        return None
    return found


def _score(report: Report, category: str) -> float:
    return float(report["categories"][category]["score"] or 0.0)


def _times(reports: Sequence[Report]) -> list[str]:
    """Return the median of each figure that the performance is made of, milliseconds, the layout shift without unit."""
    values = {
        key: median(report["audits"][key].get("numericValue", float("nan")) for report in reports) for key in _TIMES
    }
    return [f"{key} {value:.3f}" if key.endswith("shift") else f"{key} {value:.0f} ms" for key, value in values.items()]


if __name__ == "__main__":
    sys.exit(main())
