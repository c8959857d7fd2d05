"""A distributed job over two machines in a real browser: launched from the form, followed rank by rank, cancelled, compared."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import launched
from tests.e2e.test_reference import COMPARED, LONG, SOON, looks_right
from tests.process.pair import Pair, two_machines
from tests.stack import Stack

FORM = "/reference/?view=launch&host=node-1&host=node-2&workload=gpt-train&size=ci&batch_size=4&warmup_steps=2"
MEETS = 240_000  # milliseconds: for two processes to load torch and to meet


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with two_machines(tmp_path_factory) as running:
        yield running


@pytest.fixture(scope="module")
def stack(pair: Pair) -> Stack:
    """Return the product that this file's pages are of."""
    return pair.stack


@pytest.fixture(scope="module")
def browser(stack: Stack) -> Iterator[Browser]:
    """Return a browser that takes the bridge's address for what loopback is: without TLS it would complain of each page."""
    with launched(f"--unsafely-treat-insecure-origin-as-secure={stack.url}") as running:
        yield running


def launch(page: Page, steps: int) -> str:
    """Launch one job over both machines from the form; returns its page's path."""
    page.goto(f"{FORM}&steps={steps}")
    page.get_by_label("Jobs", exact=True).select_option(label="one over all of them, a rank on each device")
    page.get_by_role("button", name="Run on 2 hosts").click()
    page.wait_for_url(re.compile(r"/reference/\d+/"))
    return re.search(r"/reference/\d+/", page.url)[0]


def test_it_is_launched_from_the_form_followed_by_its_ranks_and_cancelled(signed_in: Page):
    page = signed_in
    own = launch(page, 90_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("gpt-train on 2 ranks")
    expect(page.locator(".stages")).to_contain_text("Join")
    ranks = page.get_by_role("region", name="Ranks").locator("tbody tr")
    expect(ranks).to_have_count(2)
    for rank in (0, 1):
        expect(ranks.nth(rank)).to_contain_text(f"node-{rank + 1}")
        expect(ranks.nth(rank)).to_contain_text("measure", timeout=MEETS)
        expect(ranks.nth(rank)).to_contain_text(re.compile(r"\dm?s"), timeout=LONG)
    expect(page.locator(".figures")).to_contain_text("sequences/s", timeout=LONG)
    expect(page.get_by_text("slowest", exact=True)).to_have_count(1, timeout=LONG)
    looks_right(page)

    page.goto(own)
    page.get_by_role("region", name="Ranks").get_by_role("link", name="1", exact=True).click()
    expect(page.get_by_text("Rank 1 of a distributed job")).to_be_visible(timeout=SOON)
    expect(page.locator(".log")).to_contain_text("rank 1 of 2, gloo", timeout=SOON)
    page.goto(own)
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_role("form", name="Cancel the job")).to_contain_text("on all 2 hosts?", timeout=SOON)
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.locator(".pill").filter(has_text="cancelled").first).to_be_visible(timeout=LONG)
    for rank in (0, 1):
        expect(ranks.nth(rank)).to_contain_text("cancelled", timeout=LONG)


def test_its_result_stands_in_the_matrix_by_its_hosts(signed_in: Page):
    page = signed_in
    own = launch(page, 40)
    expect(page.locator(".pill").filter(has_text="done").first).to_be_visible(timeout=MEETS)
    expect(page.locator(".stages")).to_contain_text(COMPARED, timeout=LONG)
    expect(page.locator("#job-verdict")).to_contain_text("Verdict", timeout=SOON)

    page.goto("/reference/")
    row = page.locator("#matrix tr").filter(has_text="node-1, node-2")
    expect(row.locator(f"a[href='{own}']")).to_contain_text(COMPARED, timeout=LONG)
    looks_right(page)


def test_the_form_offers_it_only_where_the_workload_may_be_one(signed_in: Page):
    page = signed_in
    page.goto(FORM)
    choice = page.locator("#f-per option[value=distributed]")
    expect(choice).to_have_count(1)
    page.locator("input[name=workload][value=gemm-sweep]").check(force=True)

    expect(page.locator("[data-settings] .sub")).to_have_text("of gemm-sweep", timeout=SOON)
    expect(choice).to_have_count(0)
