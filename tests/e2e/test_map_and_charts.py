"""The host map and the charts in a real browser: keys, metrics, a zoom that live updates keep and Back undoes, a custom range."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.e2e.test_main_path import HOST
from tests.process.traces import wait_until

WAIT = 60_000
AFTER_PAINTING = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
SECONDS_OF_ZOOM = (
    "() => { const p = new URLSearchParams(location.search); return (p.get('to') - p.get('from')) / 1000; }"
)


def test_the_map_is_coloured_by_any_metric_and_walked_by_keys(signed_in: Page):
    page = signed_in
    canvas = page.locator("#hostmap canvas")
    expect(canvas).to_have_attribute("data-drawn", "Utilisation", timeout=WAIT)
    for button, drawn in (("Memory", "Memory"), ("vs baseline", "vs baseline"), ("Health", "Health")):
        page.get_by_role("button", name=button, exact=True).click()
        expect(canvas).to_have_attribute("data-drawn", drawn)
    page.reload()
    expect(canvas).to_have_attribute("data-drawn", "Health", timeout=WAIT)

    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#hostmap .tip")).to_contain_text(HOST)
    expect(page.locator("#hostmap [data-say]")).to_contain_text("CPU 0, ")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/devices/.+/"))
    page.go_back()
    expect(canvas).to_have_attribute("data-drawn", "Health", timeout=WAIT)


def drag(page: Page, start: float, end: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Drag over the first chart, by parts of its width; `meanwhile` happens half of the way."""
    box = page.locator(".chart .u-over").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y, steps=2)
    meanwhile()
    page.mouse.move(box["x"] + end * box["width"], y, steps=2)
    page.mouse.up()


LATER_MS = 90_000


@pytest.mark.parametrize("is_drawn_anew", [False, True], ids=["moved", "drawn anew"])
def test_an_answer_that_comes_in_a_drag_neither_ends_it_nor_moves_it(signed_in: Page, is_drawn_anew: bool):
    page, held = signed_in, list[Route]()
    page.goto(f"/hosts/{HOST}/?range=15m")
    chart = page.locator(".chart[data-shown]").first
    expect(chart.locator("canvas")).to_be_visible(timeout=WAIT)

    def meanwhile() -> None:
        """Have the update that was asked for before the drag be answered, with a later window."""
        answer = held[0].fetch()
        told = answer.json()
        told["range"] = [at + LATER_MS for at in told["range"]]
        with page.expect_response("**/arrays/**", timeout=WAIT):
            held[0].fulfill(response=answer, json=told)
        if is_drawn_anew:
            page.evaluate("() => document.dispatchEvent(new CustomEvent('sw:theme'))")
        page.evaluate(AFTER_PAINTING)

    page.route("**/arrays/**", lambda route: held.append(route))  # noqa: PLW0108 — it must be a function of Python
    wait_until(lambda: page.evaluate("() => true") and bool(held), WAIT / 1000, "an update to be asked for")
    start, end = map(float, (chart.get_attribute("data-shown") or "").split())
    drag(page, 0.25, 0.75, meanwhile)
    page.unroute("**/arrays/**")

    page.wait_for_url(re.compile("from=.*to="))
    zoomed = page.evaluate("() => ['from', 'to'].map((name) => Number(new URLSearchParams(location.search).get(name)))")
    assert zoomed == [pytest.approx(start + part * (end - start), abs=LATER_MS / 6) for part in (0.25, 0.75)]
    with page.expect_response(lambda answer: "/arrays/" in answer.url and "from=" in answer.url, timeout=WAIT):
        pass  # updates go on


def test_a_zoom_is_asked_for_finer_kept_by_live_updates_and_undone_by_back(signed_in: Page):
    page = signed_in
    page.goto(f"/hosts/{HOST}/?range=15m")
    expect(page.locator(".chart .u-over").first).to_be_visible(timeout=WAIT)

    with page.expect_response(lambda answer: "/arrays/" in answer.url and "from=" in answer.url, timeout=WAIT):
        drag(page, 0.25, 0.75)
    page.wait_for_url(re.compile("from=.*to="))
    assert 400 < page.evaluate(SECONDS_OF_ZOOM) < 500
    expect(page.locator("[data-zoomed]").first).to_be_visible()
    zoomed = page.url
    with page.expect_response(lambda answer: "/arrays/" in answer.url and "from=" in answer.url, timeout=WAIT):
        pass  # the next live update asks for the same part
    assert page.url == zoomed

    page.reload()
    expect(page.locator("[data-zoomed]").first).to_be_visible(timeout=WAIT)
    page.go_back()
    expect(page.locator("[data-zoomed]").first).to_be_hidden()
    assert "from=" not in page.url


# What the x axis says at 21:00 and at midnight of the viewer, of a window of so many hours that ends an hour later.
AXIS_WORDS = """async (hours) => {
    const { axes } = await import('/static/js/painters/fineaxes.js');
    const midnight = new Date(2026, 10, 24).getTime(), end = midnight + 3_600_000;
    const layout = { margin: { b: 20, l: 40 }, xaxis: {} };
    const chart = { isTime: true, width: 900, figure: { layout }, window: () => [end - hours * 3_600_000, end] };
    return axes(chart)[0].values(null, [midnight - 10_800_000, midnight]);
}"""


@pytest.mark.parametrize(("hours", "words"), [(24, ["21:00", "00:00"]), (48, ["21:00", "24 Nov"])])
def test_the_axis_of_several_days_says_which_day_begins(signed_in: Page, hours: int, words: list[str]):
    assert signed_in.evaluate(AXIS_WORDS, hours) == words


def test_a_custom_range_is_shown_and_stands_in_the_address(signed_in: Page):
    page = signed_in
    page.goto(f"/hosts/{HOST}/")
    page.locator("[data-custom-range] summary").click()
    page.get_by_label("From", exact=True).fill("2026-01-02T03:00:00")
    page.get_by_label("To", exact=True).fill("2026-01-02T02:00:00")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_text("The beginning must lie before the end.")).to_be_visible()

    page.get_by_label("To", exact=True).fill("2026-01-02T04:30:00")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url(re.compile("from="))
    assert page.evaluate(SECONDS_OF_ZOOM) == 5400
    expect(page.locator("[data-custom-words]")).to_contain_text("2 Jan")
    page.go_back()
    expect(page.locator("[data-custom-words]")).to_have_text("Custom")


def test_a_live_update_keeps_the_focus_and_touches_only_what_differs(signed_in: Page):
    page = signed_in
    expect(page.locator("#hostmap canvas")).to_have_attribute("data-drawn", "Utilisation", timeout=WAIT)
    page.locator("#tiles a.tile").first.focus()
    page.evaluate("() => { document.getElementById('attention').mine = true; }")
    for _ in range(2):
        with page.expect_event(
            "response", lambda answer: answer.request.headers.get("hx-request") == "true", timeout=WAIT
        ):
            pass
    with page.expect_response(lambda answer: "/fleet/map/" in answer.url, timeout=WAIT):
        pass  # it follows the tiles
    assert page.evaluate("() => document.activeElement.closest('#tiles') !== null")
    assert page.evaluate("() => document.getElementById('attention').mine")


def test_the_values_of_charts_are_read_as_a_table(signed_in: Page):
    page = signed_in
    page.goto(f"/hosts/{HOST}/?range=15m&live=0")
    expect(page.locator(".chart canvas").first).to_be_visible(timeout=WAIT)
    page.get_by_text("Values as a table").click()
    table = page.locator(".chart-table table")

    expect(table.locator("thead")).to_contain_text("Utilisation")
    expect(table.locator("tbody tr").last).to_contain_text(re.compile(r"\d:\d\d"))
    assert table.locator("tbody tr").count() > 10


def test_a_page_of_a_chosen_time_says_which(signed_in: Page):
    page = signed_in
    page.goto(f"/hosts/{HOST}/?from=1767322800000&to=1767326400000")
    heading = page.locator(".panel.charts h2")
    expect(heading).to_contain_text("2 Jan")
    page.locator(".chart[data-shown]").first.wait_for()  # it hears nothing before it is drawn

    page.evaluate(
        "() => document.querySelector('.chart[data-shown]').dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))"
    )
    expect(heading).to_have_text("Last hour")
