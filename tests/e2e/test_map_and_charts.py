"""The host map and the charts in a real browser: keys, metrics, a zoom that live updates keep and Back undoes, a custom range."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.test_main_path import HOST

WAIT = 60_000
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


def drag(page: Page, start: float, end: float) -> None:
    box = page.locator(".chart .u-over").first.bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


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
