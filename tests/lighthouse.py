"""Lighthouse, desktop preset, on the fleet, host, run and reference pages: `make lighthouse`. Exit status 1 below 95 anywhere.

The fleet is that of the pictures (screenshots.py): simulated, with a past and live. Lighthouse comes from npm: an installed
`lighthouse`, else `npx`. It works in a Chromium that has signed in, by its debugging port, so that it sees what people see.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests import seeded
from tests.e2e.conftest import FLAGS
from tests.e2e.test_every_page import SETTINGS
from tests.ports import free_port
from tests.programs import require
from tests.screenshots import living, sign_in
from tests.stack import Stack, start_stack

PAGES = ("fleet", "host", "run", "reference")
CATEGORIES = ("performance", "accessibility", "best-practices")
LEAST = 0.95
_VERSION = "12.8.2"
_TIMES = ("largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift")
_MOST_SECONDS = 240


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, start_stack(Path(directory), **SETTINGS) as stack:
        seeded.seed(stack, seeded.LARGE, seconds=1200, recorded_nodes=8)
        paths = seeded.pages(stack.signed_in())
        with living(stack), _signed_in_browser(stack, Path(directory) / "profile") as port:
            scores = [_judged(stack.url + paths[name], name, port, Path(directory)) for name in PAGES]
    return int(any(score < LEAST for of_page in scores for score in of_page))


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
    report = directory / f"{name}.json"
    own = shutil.which("lighthouse")
    program = [own] if own else [require("npx"), "--yes", f"lighthouse@{_VERSION}"]
    options = [
        f"--port={port}", "--preset=desktop", "--disable-storage-reset", f"--only-categories={','.join(CATEGORIES)}",
        "--output=json", f"--output-path={report}", "--quiet",
    ]  # fmt: skip
    ended = subprocess.run([*program, url, *options], check=False, timeout=_MOST_SECONDS)
    if not report.exists():
        print(f"{name:10} no report: Lighthouse ended with {ended.returncode}")
        return [0.0]
    found: dict[str, Any] = json.loads(report.read_text())
    scores = [found["categories"][category]["score"] or 0.0 for category in CATEGORIES]
    times = [f"{key} {found['audits'][key].get('displayValue', '—')}" for key in _TIMES]
    error = found.get("runtimeError", {}).get("code", "")
    print(
        f"{name:10}",
        *(f"{key} {100 * score:.0f}" for key, score in zip(CATEGORIES, scores, strict=True)),
        *times,
        error,
    )
    return scores


if __name__ == "__main__":
    sys.exit(main())
