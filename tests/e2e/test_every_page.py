"""Every page of a seeded fleet in a real browser: no error, no stranger asked, nothing that axe-core finds, no sideways scroll.

One visit a page: looked at dark, then light, then as narrow as a phone. New pages belong into tests/seeded.py.
"""

import csv
import io
import lzma
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests import seeded
from tests.e2e.conftest import PATIENCE, Watched
from tests.e2e.test_main_path import NARROW
from tests.process.traces import wait_until
from tests.stack import Stack, start_stack

AXE = Path(__file__).parents[1] / "vendor" / "axe-4.14.1.min.js.xz"
SETTINGS = {"STEPWATT_CURRENCY": "EUR", "STEPWATT_PRICE_PER_KWH": "0.218", "STEPWATT_PUE": "1.24"}
PAGES = (
    "fleet", "fleet-table", "hosts", "host", "recorded-host", "device", "runs", "run", "simulated-run", "reference", "launch",
    "launch-by-selection", "schedules", "new-schedule", "schedule", "ladders", "power", "power-by-model", "efficiency",
    "efficiency-runs", "events", "new-silence", "search", "settings", "rules", "notifications", "energy", "access", "add-host",
    "launched", "job", "distributed-job", "ladder", "trend",
)  # fmt: skip
READY = """() => !document.querySelector('.htmx-request, [aria-busy]')
    && [...document.querySelectorAll('.chart[data-figure]')].every((chart) => chart.querySelector('svg, canvas'))"""
# Each table and chart with the file that its panel offers (else the page's), its rows, and whether they are but a part.
SHOWN = """() => {
    const parts = 'runs jobs hosts groups training-runs recent-jobs run-ranks visits events'.split(' ');
    const links = (box) => [...box.querySelectorAll('a[download]')].filter((link) => link.textContent.trim() === 'CSV');
    const rows = (table) => table.matches('.results')
        ? table.querySelectorAll('tbody a.m')
        : [...table.querySelectorAll('tbody tr')].filter((row) => row.cells.length > 1);
    return [...document.querySelectorAll('main table, main .chart[data-figure]')]
        .filter((each) => !each.closest('.chart-table') && !each.parentElement.closest('.chart'))
        .map((each) => {
            const isTable = each.tagName === 'TABLE', panel = each.closest('.panel'), files = links(panel);
            const before = isTable && each.closest('.tw').previousElementSibling;
            const own = before && before.matches('.foot') && links(before)[0];
            const file = own || (isTable ? files[0] : files.at(-1)) || links(document.querySelector('.toolbar') ?? panel)[0];
            return {
                what: panel.id || panel.querySelector('h2')?.textContent,
                file: file?.href,
                rows: isTable ? rows(each).length : 1,
                isPart: !isTable || parts.includes(panel.id) || !!panel.querySelector('[rel=next]'),
            };
        });
}"""
# Whether each panel that loads by itself, and each chart, says that it could not be read.
TOLD = """() => [...document.querySelectorAll('main [hx-trigger^=load], main [data-first]')]
    .every((each) => (each.closest('.panel, .tiles') ?? each).querySelector('.unread'))
    && [...document.querySelectorAll('.chart[data-arrays]')].every((each) => each.textContent.includes('could not be read'))"""
# No tab of a headless browser is ever hidden: what the page reads of it is set, and the event sent that tells of it.
SEEN = """(isSeen) => {
    Object.defineProperty(document, 'hidden', {configurable: true, get: () => !isSeen});
    document.dispatchEvent(new Event('visibilitychange'));
}"""
# How many pixels of the power chart, which shows `start` to `end`, have the line's colour and the gaps' between two moments.
DRAWN = """([start, end, from, to]) => {
    const chart = document.querySelector('[data-figure=fig-power_draw_watts]');
    const canvas = chart.querySelector('canvas'), own = canvas.getBoundingClientRect();
    const plot = chart.querySelector('.u-over').getBoundingClientRect(), scale = canvas.width / own.width;
    const at = (time) => Math.round((plot.left - own.left + (time - start) / (end - start) * plot.width) * scale);
    const top = Math.round((plot.top - own.top) * scale), height = Math.round(plot.height * scale);
    const {data} = canvas.getContext('2d').getImageData(at(from), top, at(to) - at(from), height);
    const probe = document.body.appendChild(document.createElement('span'));
    const count = (token) => {
        probe.style.color = `var(--${token})`;
        const tone = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        let n = 0;
        for (let i = 0; i < data.length; i += 4)
            if (data[i + 3] > 200 && [0, 1, 2].every((k) => Math.abs(data[i + k] - tone[k]) < 6)) n += 1;
        return n;
    };
    const found = {line: count('s1'), grey: count('surface-3')};
    probe.remove();
    return found;
}"""
# Charts whose values no table of the page would show, by their figure.
UNTOLD = """() => {
    const told = [...document.querySelectorAll('[data-chart-table]')].flatMap(({dataset}) => dataset.chartTable.split(' '));
    const drawn = [...document.querySelectorAll('.chart[data-figure]')].map(({dataset}) => dataset.figure);
    return drawn.filter((id) => !told.includes(id));
}"""
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
        return seeded.pages(client) | seeded.pages_of_jobs(fleet)
    finally:
        client.close()


@pytest.fixture(scope="module")
def visitor(browser: Browser, fleet: Stack) -> Iterator[tuple[Page, Watched]]:
    """Return a page in which the admin is signed in, and what it complained about."""
    context = browser.new_context(base_url=fleet.url, color_scheme="dark", reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    page, watched = context.new_page(), Watched()
    watched.follow(page, fleet.url)
    page.goto("/login/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill(fleet.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("/")
    yield page, watched
    context.close()


@pytest.fixture
def another(browser: Browser, fleet: Stack, visitor: tuple[Page, Watched]) -> Iterator[Page]:
    """Return a page of the same admin whose complaints nobody counts: what it asks for may be made to fail."""
    context = browser.new_context(base_url=fleet.url, storage_state=visitor[0].context.storage_state())
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    yield page
    page.unroute_all(behavior="ignoreErrors")
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
    watched.complaints.clear()
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
    page.wait_for_function(NARROW, timeout=60_000)  # charts follow the width in their own time
    assert faults == []
    assert set(page.evaluate(UNTOLD)) <= {"fig-ladder"}  # whose rungs stand below it
    assert (watched.complaints, watched.strangers) == ([], [])


@pytest.mark.parametrize("name", PAGES)
def test_every_table_and_every_chart_of_a_page_can_be_had_as_csv(
    name: str, paths: dict[str, str], visitor: tuple[Page, Watched]
):
    page, _ = visitor
    path = paths[name]
    page.set_viewport_size({"width": 1366, "height": 900})
    differing, until = [{}], time.monotonic() + PATIENCE / 1000
    # Readings go on between a page and its files, and may leave one in between.
    while differing and time.monotonic() < until:
        page.goto(f"{path}{'&' if '?' in path else '?'}live=0")
        page.wait_for_function(READY, timeout=60_000)
        differing = [each for each in page.evaluate(SHOWN) if not is_whole(each, page)]

    assert differing == []


def is_whole(shown: dict, page: Page) -> bool:
    """Tell whether the file of a table or chart has all its rows; fails where there is no such file."""
    assert shown["file"], f"{shown['what']} has no link to its CSV"
    answer = page.request.get(shown["file"])
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/csv"), shown
    head, *rows = csv.reader(io.StringIO(answer.text()))
    assert all(head), shown
    assert all(len(row) == len(head) for row in rows), shown
    return len(rows) >= shown["rows"] if shown["isPart"] else len(rows) == shown["rows"]


def said(violations: list[dict]) -> list[str]:
    """Return each violation with the elements that it is about."""
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}" for each in violations for node in each["nodes"]
    ]


def test_slash_searches_and_arrows_lead_to_what_is_found(visitor: tuple[Page, Watched]):
    page, _ = visitor
    page.set_viewport_size({"width": 1366, "height": 900})
    page.goto("/settings/energy/")
    page.locator("body").press("/")
    with page.expect_response(lambda answer: searched(answer.request) == "atlas-0001 GPU"):
        page.keyboard.type("atlas-0001 GPU")
    page.wait_for_function(READY)
    page.locator("#found a.hit").first.wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")

    page.wait_for_url("**/devices/**", timeout=60_000)


def test_a_chosen_cluster_holds_from_page_to_page_and_the_search_offers_all(visitor: tuple[Page, Watched]):
    page, watched = visitor
    watched.complaints.clear()
    page.set_viewport_size({"width": 1366, "height": 900})
    page.goto("/")
    page.locator("summary", has_text="All clusters").click()
    page.get_by_role("link", name="atlas", exact=True).click()
    for key, path in (("p", "/power/"), ("r", "/runs/"), ("b", "/reference/"), ("e", "/events/"), ("f", "/")):
        page.wait_for_url("**/?cluster=atlas")
        page.keyboard.type(f"g{key}")
        page.wait_for_url(f"**{path}?cluster=atlas")
        expect(page.locator("summary", has_text="atlas")).to_be_visible()
    page.keyboard.type("/recorded")
    expect(page.locator("#found")).to_contain_text("Nothing in atlas")
    page.get_by_role("link", name="Search all clusters").click()
    expect(page.locator("main a.hit").first).to_be_visible()
    assert watched.complaints == []


def searched(request: Request) -> str:
    """Return what a request searches for, "" where it is another."""
    url = urlsplit(request.url)
    return parse_qs(url.query).get("q", [""])[0] if url.path == "/search/" else ""


def test_an_answer_that_comes_after_the_first_arrow_leaves_the_focus_on_what_was_chosen(visitor: tuple[Page, Watched]):
    page, held = visitor[0], list[Route]()
    page.set_viewport_size({"width": 1366, "height": 900})
    page.goto("/settings/energy/")
    page.locator("body").press("/")
    page.keyboard.type("atlas-0001")
    page.locator("#found a.hit").first.wait_for()
    page.route(re.compile(r"/search/\?q=atlas-0001(%20|\+)"), lambda route: held.append(route))  # noqa: PLW0108 — it must be a function of Python
    with page.expect_request(lambda request: searched(request) == "atlas-0001 GPU"):
        page.keyboard.type(" GPU")
    page.keyboard.press("ArrowDown")
    answered_while_held(page, held)

    assert page.evaluate("() => document.activeElement.closest('#found a.hit') !== null")
    page.unroute_all(behavior="ignoreErrors")


def answered_while_held(page: Page, held: list[Route]) -> None:
    """Have what was asked last be answered, and wait until it is shown; what was asked before was given up."""
    wait_until(
        lambda: page.evaluate("() => true") and [searched(each.request) for each in held[-1:]] == ["atlas-0001 GPU"],
        60,
        "the last question",
    )
    with page.expect_response(lambda answer: searched(answer.request) == "atlas-0001 GPU"):
        held[-1].continue_()
    page.wait_for_function(READY)


def test_the_keys_are_listed_lead_to_pages_and_can_be_turned_off(visitor: tuple[Page, Watched]):
    page, _ = visitor
    page.goto("/settings/energy/")
    page.locator("body").press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator("body").press("g")
    page.keyboard.press("e")
    page.wait_for_url("**/events/", timeout=60_000)

    page.locator("body").press("?")
    page.get_by_label("Keys work without a modifier").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator("body").press("?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.evaluate("localStorage.clear()")


def test_a_panel_that_fails_says_so_and_leaves_the_page_in_place(another: Page):
    page, fails = another, [True]
    page.route("**/power/idle/**", lambda route: route.fulfill(status=500) if fails[0] else route.continue_())
    page.goto("/power/?range=1h&live=0")

    failed = page.locator("#idle")
    expect(failed.get_by_text("This panel could not be read: the server answered 500")).to_be_visible(timeout=60_000)
    expect(page.locator("#groups table")).to_be_visible(timeout=60_000)
    fails[0] = False
    failed.get_by_role("button", name="Try again").click()
    expect(page.locator("#idle .unread")).to_have_count(0, timeout=60_000)
    expect(page.locator("#idle")).to_contain_text("Idle waste by cluster", timeout=60_000)


@pytest.mark.parametrize("name", ["fleet", "host", "device", "run", "power", "efficiency"])
def test_where_nothing_can_be_fetched_each_panel_says_so_and_the_page_stands(
    name: str, another: Page, paths: dict[str, str]
):
    page, thrown = another, list[str]()
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.route("**", lambda to: to.fulfill(status=500) if is_fetched(to.request) else to.continue_())
    page.goto(paths[name])

    page.wait_for_function(TOLD, timeout=60_000)
    expect(page.locator("h1")).to_be_visible()
    expect(page.get_by_role("button", name="Try again").first).to_be_visible(timeout=60_000)
    assert thrown == []


def is_fetched(request: Request) -> bool:
    """Tell whether it is no part of the page itself; a page asks for its charts' values before its scripts run."""
    return request.resource_type in {"xhr", "fetch"} or "/arrays/" in request.url


def test_charts_that_cannot_be_refreshed_say_so_and_stay_as_they_were(another: Page, paths: dict[str, str]):
    page, fails = another, [False]
    page.route("**/arrays/**", lambda route: route.fulfill(status=503) if fails[0] else route.continue_())
    page.goto(f"{paths['host']}?range=15m")
    page.wait_for_function(READY, timeout=60_000)

    fails[0] = True
    said = page.locator(".panel.charts > .unread")
    expect(said).to_contain_text("Not refreshed since", timeout=60_000)
    expect(said).to_contain_text("the server answered 503")
    expect(page.locator(".panel.charts canvas").first).to_be_visible()
    expect(page.locator("#facts")).to_be_visible()
    fails[0] = False
    expect(said).to_have_count(0, timeout=60_000)


def test_a_tab_in_the_background_asks_nothing_until_it_is_seen_again(visitor: tuple[Page, Watched]):
    page = visitor[0].context.new_page()
    page.clock.install()
    page.goto("/")
    page.wait_for_function(READY, timeout=60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_request("**", timeout=60_000):
        page.clock.run_for(6_000)

    page.evaluate(SEEN, False)
    page.wait_for_load_state("networkidle", timeout=60_000)
    asked.clear()
    page.clock.run_for(600_000)
    page.wait_for_load_state("networkidle", timeout=60_000)
    assert asked == []

    with page.expect_request("**", timeout=60_000):
        page.evaluate(SEEN, True)
    page.close()


@pytest.fixture(scope="module")
def gap(fleet: Stack) -> tuple[int, int]:
    """Return from when to when nothing is known of the host `gappy`, ms, in a recording of the last hour."""
    now = round(time.time() * 1000)
    gap = now - 2_400_000, now - 1_200_000
    known = [at for at in range(now - 3_600_000, now - 120_000, 10_000) if not gap[0] <= at < gap[1]]
    file = fleet.directory / "gappy.csv"
    file.write_text(
        "\n".join(["time_ms,power_draw_watts", *(f"{at},{300 + at // 10_000 % 7 * 20}" for at in known), ""])
    )
    told = fleet.manage("import_telemetry", str(file), "--host", "gappy")
    assert told.returncode == 0, told.stderr
    return gap


def test_a_gap_is_drawn_as_a_gap(gap: tuple[int, int], visitor: tuple[Page, Watched]):
    page, _ = visitor
    start, end = gap[0] - 1_000_000, gap[1] + 1_000_000
    page.set_viewport_size({"width": 1366, "height": 900})
    page.goto(f"/hosts/gappy/?range=1h&from={start}&to={end}&live=0")
    page.wait_for_function(READY, timeout=60_000)

    before, within, after = (
        page.evaluate(DRAWN, [start, end, *span])
        for span in (
            (start + 60_000, gap[0] - 60_000),
            (gap[0] + 60_000, gap[1] - 60_000),
            (gap[1] + 60_000, end - 60_000),
        )
    )
    assert before["line"] > 100
    assert after["line"] > 100
    assert within["line"] == 0
    assert within["grey"] > 1000
    assert before["grey"] < within["grey"] / 10  # lines of the grid are nearly as grey
