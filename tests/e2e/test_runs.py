"""The pages of runs in a real browser: a loop's steps arrive live, a zoom stays and the figures follow it, two runs compared."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.test_main_path import NARROW
from tests.process.traces import wait_until
from tests.stack import ROOT, Stack

LOOP = Path(__file__).with_name("training_loop.py")
RECORDED = ROOT / "tests" / "data" / "mlperf_gpt3_64xh100" / "step_times.csv"
PHONE = {"viewport": {"width": 390, "height": 844}}
FIRST = "[data-figure=fig-step]"
# Whether there is ink above the plot of a chart, where the words of what is marked stand.
WORDS_ABOVE = """(selector) => {
    const chart = document.querySelector(selector), canvas = chart.querySelector('canvas');
    const above = chart.querySelector('.u-over').offsetTop * devicePixelRatio;
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const {data} = copy.getImageData(0, 0, canvas.width, Math.floor(above));
    let n = 0;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 100) n += 1;
    return n > 20;
}"""

# Whether a chart has a line in the colour of a token.
DRAWN = """([selector, token]) => {
    const canvas = document.querySelector(`${selector} canvas`);
    if (!canvas) return false;
    const probe = document.body.appendChild(document.createElement('span'));
    probe.style.color = `var(--${token})`;
    const tone = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
    probe.remove();
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
    copy.drawImage(canvas, 0, 0);
    const {data} = copy.getImageData(0, 0, canvas.width, canvas.height);
    let n = 0;
    for (let i = 0; i < data.length; i += 4)
        if (data[i + 3] > 200 && [0, 1, 2].every((k) => Math.abs(data[i + k] - tone[k]) < 6)) n += 1;
    return n > 10;
}"""


@pytest.fixture(scope="module")
def loop(stack: Stack) -> Iterator[None]:
    """A loop that trains on this machine while the tests look, and a recorded run beside it."""
    told = stack.manage(
        "import_steps", str(RECORDED), "--run", "gpt3-175b", "--column", "tokens_done=tokens:cumulative"
    )
    assert told.returncode == 0, told.stderr
    socket = stack.directory / "var" / "agent" / "steps.sock"
    wait_until(socket.exists, 240, "the agent's socket")
    environment = {**os.environ, "STEPWATT_SOCKET": str(socket), "PYTHONPATH": str(ROOT / "training" / "client")}
    process = subprocess.Popen([sys.executable, str(LOOP)], env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def open_run(page: Page, name: str = "browser-llm") -> None:
    page.goto("/runs/")
    wait_until(lambda: _is_listed(page, name), 240, "the run in the list")
    page.get_by_role("link", name=name, exact=True).click()
    page.wait_for_url(re.compile(r"/runs/\d+/"))
    expect(page.locator("#run-slow h2")).to_be_visible()


def _is_listed(page: Page, name: str) -> bool:
    page.reload()
    return page.get_by_role("link", name=name, exact=True).count() > 0


def axis(page: Page) -> str:
    """Return the moments between which the first chart's axis stands, as its painter tells them."""
    shown = page.locator(FIRST).get_attribute("data-shown")
    assert shown
    return shown


def drag(page: Page, start: float, end: float) -> None:
    """Zoom the first chart to the part of it from one share of its width to another."""
    box = page.locator(f"{FIRST} .u-over").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + (start + end) / 2 * box["width"], y, steps=4)
    page.mouse.move(box["x"] + end * box["width"], y, steps=4)
    page.mouse.up()


@pytest.mark.usefixtures("loop")
def test_the_steps_of_a_loop_arrive_while_the_page_is_open(signed_in: Page):
    page = signed_in
    open_run(page)
    expect(page.locator(".pill").filter(has_text="running")).to_be_visible()
    expect(page.locator(f"{FIRST} canvas")).to_be_visible(timeout=60_000)
    expect(page.locator("[data-legend=fig-step]")).to_contain_text(re.compile(r"backward\s*\d+"), timeout=60_000)
    steps = page.locator("#run-facts div", has_text="Steps").locator("dd")
    seen = steps.inner_text()

    expect(steps).not_to_have_text(seen, timeout=60_000)


@pytest.mark.usefixtures("loop")
def test_a_zoom_stays_across_live_updates_and_the_figures_follow_it(signed_in: Page):
    page = signed_in
    open_run(page)
    expect(page.locator(f"{FIRST} canvas")).to_be_visible(timeout=60_000)

    with page.expect_response(lambda answer: re.search(r"/runs/\d+/\?.*from=", answer.url) is not None, timeout=60_000):
        drag(page, 0.3, 0.7)
    expect(page).to_have_url(re.compile(r"from=\d+&to=\d+"))
    zoomed = axis(page)
    with page.expect_response(lambda answer: "/arrays/" in answer.url and "from=" in answer.url, timeout=60_000):
        pass
    page.wait_for_timeout(500)

    assert axis(page) == zoomed
    expect(page.locator("[data-zoomed=run]")).to_be_visible()
    words = page.locator(".charts [data-range-words]")
    expect(words).to_have_text(re.compile(r"\d\d:\d\d – .*\d\d:\d\d"))
    page.locator(f"{FIRST} .u-over").dblclick()
    expect(words).to_have_text(re.compile("^last "))


@pytest.mark.usefixtures("loop")
def test_what_a_figure_is_made_of_stays_open_while_it_changes(signed_in: Page):
    page = signed_in
    open_run(page)
    page.locator("#how-throughput summary").click()
    with page.expect_response(lambda answer: re.search(r"/runs/\d+/($|\?)", answer.url) is not None, timeout=60_000):
        pass
    page.wait_for_timeout(500)

    expect(page.locator("#how-throughput dl")).to_be_visible()


@pytest.mark.usefixtures("loop")
def test_two_runs_are_compared_by_a_choice_that_stands_in_the_address(signed_in: Page):
    page = signed_in
    open_run(page)
    page.locator("summary", has_text="Compare").click()
    page.locator(".choices a", has_text="gpt3-175b").click()
    page.wait_for_url(re.compile(r"with=\d+"))

    expect(page.locator("#run-compare")).to_contain_text("Compared with gpt3-175b")
    for token in ("s1", "s2"):  # the one and the other, each on step numbers of its own
        page.wait_for_function(DRAWN, arg=["[data-figure=fig-compare-seconds]", token], timeout=60_000)


@pytest.mark.usefixtures("loop")
def test_a_recorded_run_shows_its_evaluations(signed_in: Page):
    page = signed_in
    open_run(page, "gpt3-175b")

    expect(page.locator(f"{FIRST} canvas")).to_be_visible(timeout=60_000)
    page.wait_for_function(WORDS_ABOVE, arg=FIRST, timeout=60_000)
    expect(page.locator("#run-goodput")).to_contain_text("evaluation")


@pytest.mark.usefixtures("loop")
@pytest.mark.parametrize("page", [PHONE], indirect=True)
def test_the_pages_of_runs_do_not_scroll_sideways_on_a_phone(signed_in: Page):
    page = signed_in
    page.goto("/runs/")
    page.wait_for_function(NARROW)
    open_run(page)
    expect(page.locator(f"{FIRST} canvas")).to_be_visible(timeout=60_000)

    page.wait_for_function(NARROW)
