"""Pictures of every page, dark, light and as narrow as a phone, into docs/screenshots/: `make screenshots`.

The fleet is simulated, with a past and then live, beside a recorded run and this machine, on which a reference job has run.
"""

import base64
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests import seeded
from tests.e2e.conftest import FLAGS
from tests.e2e.test_every_page import READY, SETTINGS
from tests.process.traces import wait_until
from tests.programs import require
from tests.stack import ROOT, Stack, start_stack

PICTURES = ROOT / "docs" / "screenshots"
_LOOKS = {"dark": ("dark", 1440), "light": ("light", 1440), "390": ("dark", 390)}
_HEIGHT = 1000
_WHOLE = f"() => Math.max({_HEIGHT}, Math.min(2600, document.documentElement.scrollHeight))"  # most of a long page
_QUALITY = 50  # of WebP: text stays sharp


def _walk_the_map(page: Page) -> None:
    page.locator("#hostmap canvas").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)


def _point_at_a_chart(page: Page) -> None:
    page.locator(".chart .u-over").first.hover()


def _look_for_a_host(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("atlas")
    page.locator("#found a.hit").first.wait_for(timeout=60_000)


# What stands only after a deed: its page, by name or path, and the deed.
_DEEDS = {
    "map-by-keys": ("/?metric=power", _walk_the_map),
    "crosshair": ("host", _point_at_a_chart),
    "search-field": ("hosts", _look_for_a_host),
    "shortcuts": ("hosts", lambda page: page.keyboard.press("?")),
}


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
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=FLAGS)
        pages = {look: _opened(browser, stack, look) for look in _LOOKS}
        seen = seeded.pages(stack.signed_in())
        _picture_each(pages, seen)
        for name, (path, deed) in _DEEDS.items():
            _picture(pages["dark"], seen.get(path, path), PICTURES / f"{name}-dark.webp", deed)
        _picture_each(pages, seeded.pages_of_jobs(stack))  # these bring silent hosts, which no other picture needs
        browser.close()


def _opened(browser: Browser, stack: Stack, look: str) -> Page:
    """Return a page in which the admin is signed in; on the way it takes the picture of the sign-in."""
    theme, width = _LOOKS[look]
    size: ViewportSize = {"width": width, "height": _HEIGHT}
    context = browser.new_context(base_url=stack.url, viewport=size, color_scheme=theme, reduced_motion="reduce")
    page = context.new_page()
    _picture(page, "/login/", PICTURES / f"login-{look}.webp")
    sign_in(page, stack)
    page.wait_for_function("() => document.querySelector('.tiles .tile')", timeout=60_000)
    return page


def _picture_each(pages: Mapping[str, Page], paths: Mapping[str, str]) -> None:
    for look, page in pages.items():
        for name, path in paths.items():
            _picture(page, path, PICTURES / f"{name}-{look}.webp")


def sign_in(page: Page, stack: Stack) -> None:
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(stack.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")


def _picture(page: Page, path: str, file: Path, deed: Callable[[Page], object] | None = None) -> None:
    """Chromium itself writes WebP: a fifth of the size of a PNG."""
    page.goto(path)
    page.wait_for_function(READY, timeout=60_000)
    page.wait_for_timeout(1500)  # sparklines and tiles follow with the first tick
    if deed:
        deed(page)
    width = page.viewport_size["width"]
    page.set_viewport_size({"width": width, "height": page.evaluate(_WHOLE)})
    taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", {"format": "webp", "quality": _QUALITY})
    file.write_bytes(base64.b64decode(taken["data"]))
    page.set_viewport_size({"width": width, "height": _HEIGHT})
    print(f"{file.name} {file.stat().st_size:,} B")


if __name__ == "__main__":
    main()
