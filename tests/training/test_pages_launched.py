"""The page of a launch: all its jobs live, what they do together, and one button that ends them all."""

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Host
from tests.factories import GPU_READINGS, make_latest
from tests.training.judging.judged import NOW, PARAMS, board, judged, together, with_history
from tests.training.pages import ENERGY, RESULT, text
from tests.training.reference_jobs import existing_job, ready_host
from training.judging.acceptance import accept
from training.models import JobState, ReferenceJob, Run, RunRank

pytestmark = pytest.mark.django_db
PAGE = "/reference/?view=launched&launch=all"


@pytest.fixture(autouse=True)
def _nothing_kept():
    """A launch's name is its own in the product; here each test has the same."""
    cache.clear()


def measuring(host, *, seconds: float = 0.5, watts: float = 500.0, **readings: float | None) -> ReferenceJob:
    """A job of the launch that has measured ten steps of eight samples, on a device that reads this; None is no reading."""
    job = existing_job(host, JobState.RUNNING, launch="all", params=PARAMS, stage="measure", step=15, total_steps=65)
    run = Run.objects.create(name="reference gpt-train", launch=f"reference-{job.pk}", host=host)
    RunRank.objects.create(
        run=run, rank=0, process="p", first_ms=1, last_ms=2, n_steps=10, seconds=10 * seconds, samples=80
    )
    ReferenceJob.objects.filter(pk=job.pk).update(run=run)
    read = GPU_READINGS | {"power_draw_watts": watts} | readings
    make_latest(host, {job.device: {name: value for name, value in read.items() if value is not None}})
    return job


def test_all_jobs_of_a_launch_are_shown_with_what_they_do_now(viewer):
    measuring(ready_host("a"))
    measuring(ready_host("b"), seconds=0.25, temperature_celsius=84.0, clock_event_reasons=float(0x4))
    existing_job(ready_host("c"), launch="all", reason="waits: 2 reference jobs run, the limit is 2")
    existing_job(ready_host("d"), launch="another")

    response = viewer.get(PAGE)

    rows = {row.job.host.name: row for row in response.context["rows"]}
    assert (rows["a"].seconds, rows["a"].samples_per_second, rows["a"].seconds_left) == (0.5, 16.0, 25.0)
    assert (rows["b"].throttled, rows["c"].seconds) == ("power cap", None)
    together = response.context["together"]
    assert (together.samples_per_second, together.watts, together.n_throttled) == (48.0, 1000.0, 1)
    assert (together.per_joule, together.n_both) == (0.048, 2)
    assert together.hottest.job.host.name == "b"
    shown = text(response)
    assert "0 of 3 have ended queued 1 · running 2" in shown
    assert "waits: 2 reference jobs run, the limit is 2" in shown


def test_devices_that_do_not_tell_why_their_clock_is_held_down_are_not_called_unthrottled(viewer):
    measuring(ready_host("a"), clock_event_reasons=None)
    together = viewer.get(PAGE).context["together"]
    assert (together.n_throttled, together.n_told) == (None, 0)

    measuring(ready_host("b"), clock_event_reasons=0.0)
    together = viewer.get(PAGE).context["together"]
    assert (together.n_throttled, together.n_told) == (0, 1)


def test_a_step_is_told_against_its_own_devices_baseline(viewer):
    measuring(with_history(board("a")), seconds=1.25)
    measuring(with_history(board("b"), level=2.5), seconds=2.5)
    measuring(board("c"), seconds=2.5)

    rows = {row.job.host.name: row.deviation for row in viewer.get(PAGE).context["rows"]}

    assert rows == {"a": pytest.approx(-0.2), "b": pytest.approx(0.0), "c": None}


def test_what_is_done_shows_its_result_and_the_page_asks_no_more(viewer):
    existing_job(ready_host("a"), JobState.DONE, launch="all", result=RESULT, energy=ENERGY)
    existing_job(ready_host("b"), JobState.FAILED, launch="all", reason="no torch")

    response = viewer.get(PAGE, headers={"HX-Request": "true"})

    shown = text(response)
    assert "All have ended" in shown
    assert "331 ms" in shown
    assert "no torch" in shown
    assert "sw:tick" not in response.content.decode()


def test_one_button_ends_all_that_has_not_ended(operator, outbox):
    queued = existing_job(ready_host("a"), launch="all")
    running = existing_job(ready_host("b"), JobState.RUNNING, launch="all")
    done = existing_job(ready_host("c"), JobState.DONE, launch="all")

    operator.post("/reference/launches/all/cancel/")

    states = {job.pk: (job.state, job.cancel_requested_at is not None) for job in ReferenceJob.objects.all()}
    assert states == {queued.pk: ("cancelled", True), running.pk: ("running", True), done.pk: ("done", False)}
    assert [outbox.taken(name)[0][0] for name in "ab"] == ["host.cancel_job"] * 2
    assert AuditEntry.objects.filter(action="reference.cancel").count() == 2


def test_a_viewer_cancels_nothing(viewer):
    existing_job(ready_host("a"), launch="all")

    assert "Cancel all" not in text(viewer.get(PAGE))
    assert viewer.post("/reference/launches/all/cancel/").status_code == 403
    assert ReferenceJob.objects.get().state == JobState.QUEUED


def test_a_launch_on_many_hosts_costs_as_many_queries_as_one_on_few(viewer):
    def n_queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            viewer.get(PAGE, headers={"HX-Request": "true"})
        return len(captured)

    for number in range(2):
        measuring(ready_host(f"h{number}"))
    n_queries()
    few = n_queries()
    for number in range(2, 12):
        measuring(ready_host(f"h{number}"))

    assert n_queries() == few


def test_a_baseline_that_a_person_replaced_is_not_told_against(viewer):
    measuring(with_history(board("a")), seconds=1.25)
    for minute in range(5):
        verdict = judged(Host.objects.get(), 1.25, minute)
        if not minute:
            accept(verdict, "driver 590", is_for_all=False, actor=Actor("ada"), now=NOW)

    assert [row.deviation for row in viewer.get(PAGE).context["rows"]] == [pytest.approx(0.0)]


def test_runs_as_a_rank_of_a_distributed_job_are_no_baseline_of_the_device_alone(viewer):
    hosts = [with_history(board("a")), board("b")]
    together(hosts, 9.0, 1)
    measuring(hosts[0], seconds=1.0)

    assert [row.deviation for row in viewer.get(PAGE).context["rows"]] == [pytest.approx(0.0)]
