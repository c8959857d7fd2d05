"""A press while the page is being changed under it: neither lost nor fallen on what has come into its place.

The pointer goes down, what was asked for is answered and could change the page, the pointer comes up. See static/js/press.js.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, Request, Route, expect

from tests.e2e.test_main_path import HOST
from tests.process.traces import wait_until
from tests.stack import Stack

LAUNCH = f"/reference/?view=launch&host={HOST}&workload=memory-bandwidth&size=ci&steps=5"
FORM = re.compile(r"part=before")
MORE = "<p>One more line.</p>" * 8  # what stands below would be moved by them
COUNTS_ANSWERS = (
    "document.addEventListener('htmx:xhr:loadend', () => { window.answered = (window.answered ?? 0) + 1; });"
)
GHOST = """
from fleet.models import Event, Host, Severity
from django.utils import timezone
host, _ = Host.objects.get_or_create(name="ghost")
for rule, severity in {rules}:
    Event.objects.create(kind="health", severity=severity, host=host, rule=rule, subject="host:ghost", text=rule,
        first_at=timezone.now(), last_at=timezone.now())
"""


class Held:
    """The page's requests of one kind: the real answers come when the test says so, with `more` before them."""

    def __init__(self, page: Page, pattern: re.Pattern[str], more: str = "") -> None:
        self._page, self._more, self._routes = page, more, list[Route]()
        page.add_init_script(COUNTS_ANSWERS)
        page.route(pattern, self._take)

    def _take(self, route: Route, request: Request) -> None:
        is_fragment = "hx-request" in request.headers
        self._routes.append(route) if is_fragment else route.continue_()

    def answer(self) -> None:
        """Answer the oldest, and wait until the page has it."""
        wait_until(lambda: self._page.wait_for_timeout(20) or bool(self._routes), 60, "what the page asks for")
        before = self._page.evaluate("() => window.answered ?? 0")
        route = self._routes.pop(0)
        found = route.fetch()
        route.fulfill(response=found, body=self._more + found.text())
        self._page.wait_for_function("before => window.answered > before", arg=before)


def is_sent(request: Request) -> bool:
    """Tell whether a request is to change something: a form asks for its parts by POST, too."""
    return request.method == "POST" and "part=" not in request.url


def press(page: Page, wanted: Locator, meanwhile: Callable[[], object], by: str = "pointer") -> Request:
    """Return what is sent by the press; `meanwhile` happens between down and up."""
    wanted.scroll_into_view_if_needed()
    box = wanted.bounding_box()
    assert box is not None
    if by == "pointer":
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
    else:
        wanted.focus()
        page.keyboard.down(" ")
    meanwhile()
    assert wanted.bounding_box() == box
    with page.expect_request(is_sent) as sent:
        page.mouse.up() if by == "pointer" else page.keyboard.up(" ")
    return sent.value


def refuse_to_send(page: Page) -> None:
    """What is sent by a press is seen, and changes nothing."""
    page.route("**", lambda route: route.fulfill(status=204) if is_sent(route.request) else route.fallback())


@pytest.mark.parametrize("more", ["", MORE], ids=["words of the button", "place of the button"])
def test_the_launch_that_is_pressed_while_the_form_is_answered_is_sent(signed_in: Page, more: str):
    """The answer has new words for the button, on which the pointer stands."""
    page = signed_in
    held = Held(page, FORM, more)
    refuse_to_send(page)
    page.goto(LAUNCH)
    page.get_by_label("Repeats", exact=True).fill("3")

    sent = press(page, page.get_by_role("button", name=f"Run on {HOST}"), held.answer)

    assert re.search(r'name="repeats"\s+3\s', sent.post_data or "") or "repeats=3" in (sent.post_data or "")
    assert "ladder" not in (sent.post_data or "")
    # The answer was not dropped.
    expect(page.locator(".before").get_by_text("One more line.")).to_have_count(more.count("<p>"))


def test_the_schedule_that_is_saved_while_the_form_is_answered_is_sent(signed_in: Page):
    page = signed_in
    held = Held(page, FORM, MORE)
    refuse_to_send(page)
    page.goto("/reference/schedules/")
    page.get_by_role("link", name="New schedule").first.click()
    page.get_by_label("Name", exact=True).fill("each night")

    sent = press(page, page.get_by_role("button", name="Make the schedule"), held.answer)

    assert "each" in (sent.post_data or "")


def refresh(page: Page) -> None:
    """Have the page ask for what is new, as it does while it is live, and wait for the answer."""
    before = page.evaluate("() => window.answered ?? 0")
    page.evaluate("() => document.body.dispatchEvent(new CustomEvent('sw:tick', {bubbles: true}))")
    page.wait_for_function("before => window.answered > before", arg=before)


@pytest.fixture
def ghost(stack: Stack) -> Iterator[None]:
    """An alert of a host that never reported: nothing resolves it."""
    _open(stack, ("host_silent", "warning"))
    yield
    gone = stack.manage(
        "shell", "--no-imports", "-c", "from fleet.models import Host; Host.objects.get(name='ghost').delete()"
    )
    assert gone.returncode == 0, gone.stderr


def _open(stack: Stack, *rules: tuple[str, str]) -> None:
    made = stack.manage("shell", "--no-imports", "-c", GHOST.format(rules=rules))
    assert made.returncode == 0, made.stderr


@pytest.mark.usefixtures("ghost")
@pytest.mark.parametrize("by", ["pointer", "space bar"])
def test_the_alert_that_is_acknowledged_is_the_one_that_was_pressed(signed_in: Page, stack: Stack, by: str):
    page = signed_in
    page.add_init_script(COUNTS_ANSWERS)
    refuse_to_send(page)
    page.goto("/events/?live=0")
    row = page.locator("#events tr[data-alert=firing]", has_text="ghost")
    action = row.locator("form", has_text="Acknowledge").first.get_attribute("action")
    _open(stack, ("agent_dropping", "critical"))  # graver: it takes the first row's place

    sent = press(page, row.get_by_role("button", name="Acknowledge"), lambda: refresh(page), by)

    assert sent.url.endswith(action or "none")
    expect(row).to_have_count(2)
