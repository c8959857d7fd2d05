"""Every page of a seeded fleet in a real browser: no error, no stranger asked, nothing that axe-core finds, no sideways scroll.

One visit a page: looked at dark, then light, then as narrow as a phone. New pages belong into tests/seeded.py.
"""

import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests import seeded
from tests.e2e.conftest import Watched
from tests.stack import Stack, start_stack

AXE = Path(__file__).parents[1] / "vendor" / "axe-4.14.1.min.js.xz"
SETTINGS = {"STEPWATT_CURRENCY": "EUR", "STEPWATT_PRICE_PER_KWH": "0.218", "STEPWATT_PUE": "1.24"}
PAGES = (
    "fleet", "fleet-table", "hosts", "host", "recorded-host", "device", "runs", "run", "simulated-run", "reference", "launch",
    "launch-by-selection", "schedules", "new-schedule", "schedule", "ladders", "power", "power-by-model", "efficiency",
    "efficiency-runs", "events", "new-silence", "search", "settings", "rules", "notifications", "energy", "access", "add-host",
)  # fmt: skip
READY = """() => !document.querySelector('.htmx-request')
    && [...document.querySelectorAll('.chart[data-figure]')].every((chart) => chart.querySelector('svg, canvas'))"""
FOUND = "(rules) => axe.run(document, rules ? {runOnly: rules} : {}).then((found) => found.violations)"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a running product with simulated and recorded hosts beside this machine."""
    with start_stack(tmp_path_factory.mktemp("seeded"), **SETTINGS) as running:
        seeded.seed(running)
        yield running


@pytest.fixture(scope="module")
def paths(fleet: Stack) -> dict[str, str]:
    client = fleet.signed_in()
    try:
        return seeded.pages(client)
    finally:
        client.close()


@pytest.fixture(scope="module")
def visitor(browser: Browser, fleet: Stack) -> Iterator[tuple[Page, Watched]]:
    """Return a page in which the admin is signed in, and what it complained about."""
    context = browser.new_context(base_url=fleet.url, color_scheme="dark", reduced_motion="reduce")
    page, watched = context.new_page(), Watched()
    watched.follow(page, fleet.url)
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(fleet.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")
    yield page, watched
    context.close()


@pytest.fixture(scope="module")
def axe() -> str:
    return lzma.decompress(AXE.read_bytes()).decode()


def test_the_pages_that_are_looked_at_are_all_that_there_are(paths: dict[str, str]):
    assert set(PAGES) == set(paths)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_fault_in_either_theme_nor_on_a_phone(
    name: str, paths: dict[str, str], visitor: tuple[Page, Watched], axe: str
):
    page, watched = visitor
    path = paths[name]
    page.set_viewport_size({"width": 1366, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{path}{'&' if '?' in path else '?'}live=0")
    page.wait_for_function(READY, timeout=60_000)
    page.evaluate(axe)

    faults = said(page.evaluate(FOUND))
    page.emulate_media(color_scheme="light")
    faults += said(page.evaluate(FOUND, ["color-contrast"]))
    page.set_viewport_size({"width": 390, "height": 844})
    widest = page.evaluate("document.documentElement.scrollWidth")

    assert faults == []
    assert widest <= 390
    assert (watched.complaints, watched.strangers) == ([], [])


def said(violations: list[dict]) -> list[str]:
    """Return each violation with the elements that it is about."""
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in violations for node in each["nodes"]
    ]
