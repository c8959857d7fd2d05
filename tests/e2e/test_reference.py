"""Reference jobs in a real browser and on a real agent: launched by keys alone, followed, cancelled, compared, scheduled."""

import lzma
import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.test_every_page import AXE, FOUND, said
from tests.e2e.test_main_path import HOST
from tests.process.traces import wait_until
from tests.stack import Stack

# Milliseconds: for what the page does, and for a job on a machine that has much else to do.
SOON, LONG = 60_000, 240_000
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 1000}
COMPARED = re.compile("no baseline|contaminated")  # by what else the machine does meanwhile
LAUNCH = f"/reference/?view=launch&host={HOST}"


@pytest.fixture(scope="module")
def api(stack: Stack) -> Iterator[httpx.Client]:
    client = stack.signed_in()
    yield client
    client.close()


@pytest.fixture(autouse=True)
def idle(api: httpx.Client) -> Iterator[None]:
    """Each test finds the host without a job, and leaves it so."""

    def active() -> list[int]:
        return [job["id"] for job in api.get("/api/v1/reference/jobs?active=true").json()["items"]]

    wait_until(lambda: not active(), 240, "the end of the jobs before")
    yield
    for ladder in api.get("/api/v1/reference/ladders").json()["items"]:
        api.post(f"/api/v1/reference/ladders/{ladder['id']}/cancel")
    for job in active():
        api.post(f"/api/v1/reference/jobs/{job}/cancel")


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until it has the focus."""
    for _ in range(150):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"no Tab leads to {wanted}")


def looks_right(page: Page) -> None:
    """The page has both themes, axe-core finds nothing in either, and on a phone it does not scroll sideways."""
    page.evaluate(lzma.decompress(AXE.read_bytes()).decode())
    shades = set()
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        shades.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert said(page.evaluate(FOUND, None if scheme == "dark" else ["color-contrast"])) == []
    assert len(shades) == 2
    page.set_viewport_size(PHONE)
    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=PHONE["width"])
    page.set_viewport_size(DESK)


def choose_by_keys(page: Page) -> None:
    """Fill in the launch form as somebody without a mouse does, and send it."""
    tab_to(page, page.locator("input[name=workload]:checked"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("[data-settings] .sub")).to_have_text("of gpt-train", timeout=SOON)
    tab_to(page, page.get_by_label("Measured steps"))
    page.keyboard.press("Control+A")
    page.keyboard.type("40")
    tab_to(page, page.get_by_label("Size", exact=True))
    page.keyboard.type("ci")
    tab_to(page, page.get_by_role("button", name=f"Run on {HOST}"))
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/reference/\d+/"))


def test_a_job_is_launched_by_keys_alone_followed_to_its_end_and_found_in_the_matrix(signed_in: Page):
    page = signed_in
    page.goto(LAUNCH)
    choose_by_keys(page)
    expect(page.locator(".stages .now")).to_have_count(1)
    expect(page.locator(".log")).to_contain_text("step 45/45", timeout=LONG)
    expect(page.locator(".pill").filter(has_text="done").first).to_be_visible(timeout=LONG)
    expect(page.locator(".stages")).to_contain_text(COMPARED, timeout=LONG)
    expect(page.locator(".figures")).to_contain_text("sequences/s")
    expect(page.locator("#step-chart canvas")).to_be_visible()
    expect(page.locator("[data-legend=step-times]")).to_contain_text(
        re.compile(r"measured step\s*\d.*warm-up step\s*\d")
    )
    expect(page.locator("#job-verdict")).to_contain_text("Verdict", timeout=SOON)
    looks_right(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert "step 45/45" in download.value.path().read_text()

    job = re.findall(r"\d+", page.url)[-1]
    page.goto("/reference/")
    expect(page.locator(f"#matrix a[href='/reference/{job}/']")).to_contain_text(COMPARED, timeout=SOON)
    looks_right(page)
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").first.click()
    assert f"gpt-train,{job}," in download.value.path().read_text()


def test_a_job_is_watched_on_its_launchs_page_and_cancelled_on_its_own(signed_in: Page):
    page = signed_in
    page.goto(f"{LAUNCH}&workload=resnet-train&size=ci&steps=90000")
    page.get_by_role("button", name=f"Run on {HOST}").click()
    expect(page.locator(".stages .now")).to_contain_text("Measure", timeout=LONG)
    expect(page.locator(".figures")).to_contain_text("images/s", timeout=LONG)
    own = page.url
    launch = page.request.get(f"/api/v1/reference/jobs/{re.findall(r'[0-9]+', own)[-1]}").json()["launch"]

    page.goto(f"/reference/?view=launched&launch={launch}")
    expect(page.locator("#jobs tbody tr")).to_contain_text("Measuring", timeout=SOON)
    expect(page.locator("#jobs tbody")).to_contain_text(re.compile(r"\dm?s"), timeout=SOON)
    looks_right(page)
    page.goto(own)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel the job").click()

    expect(page.locator(".pill").filter(has_text="cancelled")).to_be_visible(timeout=LONG)


def test_repeats_are_asked_for_in_the_form_and_told_one_by_one(signed_in: Page):
    page = signed_in
    page.goto(f"{LAUNCH}&workload=gpt-train&size=ci&steps=40")
    page.get_by_label("Repeats", exact=True).fill("3")
    page.get_by_role("button", name=f"Run on {HOST}").click()
    page.wait_for_url(re.compile(r"/reference/\d+/"))
    expect(page.locator(".stages")).to_contain_text("Measure")
    expect(page.locator("#job-repeats tbody tr")).to_have_count(3)
    expect(page.locator(".pill").filter(has_text="done").first).to_be_visible(timeout=LONG)

    expect(page.locator("#job-repeats")).to_contain_text("over 3", timeout=SOON)
    expect(page.locator("#job-repeats tbody")).to_contain_text("sequences/s")
    expect(page.locator("#job-result")).to_contain_text("120 measured in 3 repeats")
    looks_right(page)


def test_a_result_is_accepted_as_the_new_baseline_by_the_button(signed_in: Page, stack: Stack, api: httpx.Client):
    page = signed_in
    page.goto(f"{LAUNCH}&workload=memory-bandwidth&size=ci&steps=5")
    page.get_by_role("button", name=f"Run on {HOST}").click()
    page.wait_for_url(re.compile(r"/reference/\d+/"))
    job = re.findall(r"\d+", page.url)[-1]
    wait_until(lambda: api.get(f"/api/v1/reference/jobs/{job}/verdict").status_code == 200, LONG / 1000, "the verdict")
    cleared = stack.manage("shell", "--no-imports", "-c", UNDISTURBED.format(job=job))
    assert cleared.returncode == 0, cleared.stderr

    page.reload()
    page.get_by_text("Accept as the new baseline").click()
    form = page.get_by_role("form", name="Accept as the new baseline")
    form.get_by_label("Why").fill("new driver")
    form.get_by_label("For").select_option("all workloads of the device")
    looks_right(page)
    form.get_by_role("button", name="Accept").click()

    panel = page.locator("#job-verdict")
    expect(panel).to_contain_text("accepted as the new baseline of all workloads of the device by admin", timeout=SOON)
    expect(panel).to_contain_text("new driver")
    expect(page.locator("#accept-baseline")).to_have_count(0)
    found = api.get("/api/v1/reference/baselines").json()["items"][0]
    assert (found["job"], found["reason"], found["all_workloads"]) == (int(job), "new driver", True)


# A machine that has other work contaminates the run, which then is no baseline: it is the button that is tried here.
UNDISTURBED = """
from training.models import Verdict
assert Verdict.objects.filter(job={job}).update(is_clean=True, markers=[], outcome="no_baseline", reason="")
"""


def test_a_ladder_is_begun_watched_and_cancelled(signed_in: Page):
    page = signed_in
    page.goto(f"{LAUNCH}&workload=gpt-train&size=ci&steps=5")
    page.get_by_role("button", name="Run the ladder").click()
    page.wait_for_url(re.compile(r"/reference/ladders/\d+/"))

    expect(page.locator("#ladder")).to_contain_text("fp32 eager")
    expect(page.locator("#ladder")).to_contain_text("fresh processes in")
    expect(page.locator("[data-figure=fig-ladder] .main-svg").first).to_be_visible(timeout=SOON)
    looks_right(page)
    page.get_by_role("button", name="Cancel the ladder").click()

    expect(page.locator("#ladder .pill")).to_have_text("cancelled")
    page.goto("/reference/ladders/")
    expect(page.locator("tbody tr").first).to_contain_text("cancelled")


# A ladder on a host of its own, of which one process has ended and another runs; and that one's end.
CLIMBER = """
from django.utils import timezone
from fleet.models import Device, Host
from training.models import LadderProcess, LadderRun, ReferenceJob

now = timezone.now()
host = Host.objects.create(name="climber", heard_at=now)
device = Device.objects.create(host=host, uuid="climber-0", kind="cpu", index=0, model="A processor")
rungs = [{"name": "fp32 eager", "params": {}}, {"name": "compile", "params": {}}]
run = LadderRun.objects.create(
    workload="gpt-train", host=host, device=device, params={}, rungs=rungs, order=[[0, 1]], requested_by="e2e", created_at=now
)
ended = {"state": "done", "result": {"step_seconds_median": 0.2}, "ended_at": now}
for rung, fields in enumerate((ended, {"state": "starting"})):
    job = ReferenceJob.objects.create(
        launch=f"e2e{rung}", workload="gpt-train", host=host, device=device, time_limit_seconds=9, requested_by="e2e",
        expires_at=now, energy={"reason": "none"}, **fields
    )
    LadderProcess.objects.create(ladder=run, block=0, rung=rung, job=job)
print(run.pk)
"""
ENDS = """
from django.utils import timezone
from training.models import ReferenceJob

running = ReferenceJob.objects.filter(host__name="climber", state="starting")
assert running.update(state="done", result={"step_seconds_median": 0.1}, ended_at=timezone.now())
"""
LEAVES = 'from fleet.models import Host; Host.objects.filter(name="climber").delete()'


def shell(stack: Stack, script: str) -> str:
    done = stack.manage("shell", "--no-imports", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_chart_of_a_ladder_grows_with_each_rung_that_ends(stack: Stack, signed_in: Page):
    page, points = signed_in, "[data-figure=fig-ladder] .scatterlayer .point"
    run = shell(stack, CLIMBER)
    try:
        page.goto(f"/reference/ladders/{run}/")
        page.evaluate("window.isTheSamePage = true")
        expect(page.locator(points)).to_have_count(1, timeout=SOON)  # the first rung's, steady: no first step was told

        shell(stack, ENDS)

        expect(page.locator(points)).to_have_count(2, timeout=SOON)
        expect(page.locator("[data-figure=fig-ladder] .annotation-text").last).to_have_text("2.00×")
        assert page.evaluate("window.isTheSamePage")
        looks_right(page)
    finally:
        page.goto("about:blank")  # the page of a ladder that is gone would ask for it in vain
        shell(stack, LEAVES)


def test_a_schedule_is_made_with_a_live_count_paused_and_deleted(signed_in: Page):
    page = signed_in
    page.goto("/reference/schedules/")
    page.get_by_role("link", name="New schedule").first.click()
    page.get_by_label("Name", exact=True).fill("each night")
    page.locator("input[name=workload][value=vit-train]").check(force=True)
    expect(page.locator("[data-settings] .sub")).to_have_text("of vit-train", timeout=SOON)
    page.get_by_label("Repeats", exact=True).fill("2")
    page.get_by_label("Cron, in UTC").fill("0 3 * *")
    expect(page.locator(".before .wrong")).to_contain_text("expected minute, hour", timeout=SOON)
    page.get_by_label("Cron, in UTC").fill("0 3 * * *")
    expect(page.locator(".before time")).to_have_count(3, timeout=SOON)
    model = page.locator("#known-models option").first.get_attribute("value")
    page.get_by_label("Device model").press_sequentially((model or "")[:8])
    expect(page.locator("#selected")).to_contain_text("Selects 1 host, 1 job", timeout=SOON)
    page.get_by_label("host came back").check()
    looks_right(page)
    page.get_by_role("button", name="Make the schedule").click()

    page.wait_for_url(re.compile(r"/reference/schedules/\d+/"))
    expect(page.get_by_label("host came back")).to_be_checked()
    expect(page.locator("input[name=workload][value=vit-train]")).to_be_checked()
    expect(page.get_by_label("Repeats", exact=True)).to_have_value("2")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".pill")).to_have_text("paused")
    looks_right(page)
    page.get_by_text("Delete the schedule").click()
    page.get_by_role("button", name="Delete each night").click()
    page.wait_for_url("/reference/schedules/")
    expect(page.get_by_text("No schedule yet")).to_be_visible()


def test_a_launch_by_selection_is_counted_while_it_is_typed(signed_in: Page):
    page = signed_in
    page.goto(LAUNCH)
    page.get_by_label("By cluster, labels and model").check()
    model = page.get_by_label("Device model")
    model.press_sequentially("no such device")
    expect(page.locator("#selected")).to_contain_text("no host fits that selection", timeout=SOON)
    expect(page.locator("#picker")).to_be_hidden()
    model.fill((page.locator("#known-models option").first.get_attribute("value") or "")[:8])

    expect(page.locator("#selected")).to_contain_text("Selects 1 host, 1 job", timeout=SOON)
    expect(page.get_by_role("button", name=f"Run on {HOST}")).to_be_visible()
    looks_right(page)
