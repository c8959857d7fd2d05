"""Pictures of every page, dark, light and as narrow as a phone, into docs/screenshots/: `make screenshots`.

The fleet is simulated, with a past and then live, beside a recorded run and this machine, on which a reference job has run.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests import seeded
from tests.e2e.conftest import FLAGS
from tests.e2e.test_every_page import READY, SETTINGS
from tests.process.traces import wait_until
from tests.programs import require
from tests.stack import ROOT, Stack, start_stack

PICTURES = ROOT / "docs" / "screenshots"
_LOOKS = {"dark": ("dark", 1440, 1000), "light": ("light", 1440, 1000), "390": ("dark", 390, 844)}
_QUALITY = 50  # of WebP: text stays sharp


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, start_stack(Path(directory), **SETTINGS) as stack:
        seeded.seed(stack, seeded.LARGE, seconds=1200, recorded_nodes=8)
        ran = stack.manage("reference", "gpt-train", "--host", seeded.own_host(stack), "--param", "steps=40", "--wait")
        print(ran.stdout[-300:])
        with living(stack):
            wait_until(lambda: n_silent(stack) == 0, 180, "all simulated hosts to report")
            _picture_all(stack)


@contextmanager
def living(stack: Stack) -> Iterator[None]:
    """Let the simulated hosts go on while the pictures are taken: a silent fleet is none to show."""
    commands = [[sys.executable, "manage.py", *seeded.simulation(*asked)] for asked in enumerate(seeded.LARGE)]
    children = [
        subprocess.Popen(command, cwd=ROOT, env=stack.environment, stdout=subprocess.DEVNULL) for command in commands
    ]
    try:
        yield
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(timeout=60)


def n_silent(stack: Stack) -> int:
    client = stack.signed_in()
    try:
        items = client.get("/api/v1/hosts", params={"limit": 100}).json()["items"]
    finally:
        client.close()
    return sum(item["health"] == "silent" for item in items)


def _picture_all(stack: Stack) -> None:
    paths = seeded.pages(stack.signed_in())
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=FLAGS)
        for look, (theme, width, height) in _LOOKS.items():
            size = {"width": width, "height": height}
            context = browser.new_context(
                base_url=stack.url, viewport=size, color_scheme=theme, reduced_motion="reduce"
            )
            page = context.new_page()
            sign_in(page, stack)
            page.wait_for_function("() => document.querySelector('.tiles .tile')", timeout=60_000)
            for name, path in paths.items():
                _picture(page, path, PICTURES / f"{name}-{look}.webp")
        browser.close()


def sign_in(page: Page, stack: Stack) -> None:
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(stack.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")


def _picture(page: Page, path: str, file: Path) -> None:
    """Chromium itself writes WebP: a fifth of the size of a PNG."""
    page.goto(path)
    page.wait_for_function(READY, timeout=60_000)
    page.wait_for_timeout(1500)  # sparklines and tiles follow with the first tick
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
    file.write_bytes(base64.b64decode(taken["data"]))
    print(f"{file.name} {file.stat().st_size:,} B")


if __name__ == "__main__":
    main()
