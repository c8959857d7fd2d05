"""A real browser on the running product.

Every page's console and requests are watched: an error, or a request to a stranger, fails the test.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.programs import require
from tests.stack import Stack

FLAGS = [
    "--no-sandbox",  # the tests may run as root, in a container
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

PATIENCE = 60_000  # milliseconds: what is waited for comes late where the machine has much else to do
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: its event loop would run on, and Django refuses its database to whoever is within one."""
    with launched() as running:
        yield running


@contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """Run Chromium, with further flags."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=[*FLAGS, *flags])
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a page complained about, and what it asked for outside its own origin."""

    complaints: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def follow(self, page: Page, origin: str) -> None:
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self._is_own(request.url, origin) or self.strangers.append(request.url))

    def _note(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.complaints.append(f"{said.text} {said.location}")

    @staticmethod
    def _is_own(url: str, origin: str) -> bool:
        return url.startswith((origin, "data:", "blob:"))


@pytest.fixture
def page(browser: Browser, stack: Stack, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Return a page at the product's origin, not signed in. Its clean record is asserted at the end."""
    options = getattr(request, "param", {})
    context = browser.new_context(base_url=stack.url, **options)
    context.set_default_timeout(PATIENCE)
    page, watched = context.new_page(), Watched()
    watched.follow(page, stack.url)
    yield page
    context.close()
    assert watched.complaints == []
    assert watched.strangers == []


@pytest.fixture
def signed_in(page: Page, stack: Stack) -> Page:
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(stack.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")
    return page
