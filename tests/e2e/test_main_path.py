"""The main path in a real browser: log in, see this machine live. Its jobs: test_reference.py."""

import re
import socket

import pytest
from playwright.sync_api import Page, expect

NARROW = "() => document.documentElement.scrollWidth <= 390"
HOST = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())


def test_a_wrong_password_is_refused_in_words(page: Page):
    page.goto("/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_text("User name or password is wrong")).to_be_visible()


def test_the_fleet_page_shows_this_machine_and_its_values_are_read_again(signed_in: Page):
    page = signed_in
    expect(page.locator(".tiles .tile").first).to_be_visible(timeout=60_000)
    busy = page.locator(".tile", has_text="Busy share").locator(".v")
    busy.evaluate("value => { value.textContent = 'of before' }")  # a busy machine's is the same each time

    expect(busy).to_contain_text("%")
    expect(page.locator("#hostmap canvas")).to_be_visible()


def test_the_host_page_shows_readings_and_the_reason_for_a_missing_one(signed_in: Page):
    page = signed_in
    page.goto(f"/hosts/{HOST}/")

    expect(page.get_by_role("heading", level=1)).to_have_text(HOST)
    expect(page.locator(".cards .gpu").first).to_contain_text("CPU 0")
    expect(page.locator(".chart canvas").first).to_be_visible(timeout=60_000)
    missing = page.locator(".cards abbr[title]", has_text="—").first
    expect(missing).to_have_attribute("title", re.compile("not offered|no permission"))


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
@pytest.mark.parametrize("path", ["/", "/hosts/", f"/hosts/{HOST}/", "/reference/", "/reference/?view=launch"])
def test_no_page_scrolls_sideways_on_a_phone(signed_in: Page, path: str):
    page = signed_in
    page.goto(path)
    page.wait_for_load_state("load")

    page.wait_for_function(NARROW)  # charts follow the width in their own time


# Of each menu, once it is open, by how much it sticks out of the page on the left and on the right.
OUTSIDE = """() => [...document.querySelectorAll('details.menu')].map((menu) => {
    menu.open = true;
    const { left, right, width } = menu.querySelector('.pop').getBoundingClientRect();
    menu.open = false;
    return width && (left < 0 || right > document.documentElement.clientWidth) ? [menu.textContent.trim(), left, right] : null;
}).filter(Boolean)"""


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
@pytest.mark.parametrize("path", ["/", "/events/", "/settings/notifications/"])
def test_no_menu_opens_beyond_the_edge_of_a_phone(signed_in: Page, path: str):
    signed_in.goto(path)
    signed_in.wait_for_load_state("load")

    assert signed_in.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_the_chosen_part_of_the_settings_is_in_sight_on_a_phone(signed_in: Page):
    signed_in.goto("/settings/access/")
    row = signed_in.get_by_role("navigation", name="Settings")
    chosen = row.locator("[aria-current]")

    expect(chosen).to_have_text("Access")
    assert row.evaluate("(row) => row.scrollWidth > row.clientWidth")
    expect(chosen).to_be_in_viewport(ratio=0.9)


@pytest.mark.parametrize(
    "page", [{"color_scheme": "dark"}, {"color_scheme": "light"}], indirect=True, ids=["dark", "light"]
)
def test_the_theme_follows_the_system_and_the_toggle_pins_it(signed_in: Page):
    page = signed_in
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.locator("[data-theme-toggle]").first.click()

    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_what_is_printed_is_light_and_has_no_navigation(signed_in: Page):
    page = signed_in
    expect(page.locator("#hostmap canvas")).to_have_attribute("data-drawn", "Utilisation")
    page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
    shown = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(shown)

    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate(shown) != dark
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    page.emulate_media(media="screen")
    page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(shown) == dark


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_every_section_can_be_reached_on_a_phone(signed_in: Page):
    page = signed_in
    bar = page.get_by_role("navigation", name="Main").get_by_role("link")
    expect(bar).to_have_count(5)
    assert [re.sub(r"\W.*", "", name, flags=re.DOTALL) for name in bar.all_inner_texts()] == [
        "Fleet",
        "Hosts",
        "Runs",
        "Reference",
        "Events",
    ]

    page.locator("summary[aria-label^=Account]").click()
    for name in ("Efficiency", "Settings", "Power"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    page.get_by_role("link", name="Power", exact=True).click()
    page.wait_for_url("**/power/")
