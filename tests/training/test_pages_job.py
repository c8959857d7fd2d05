"""The live page of a reference job: its states, figures, log, refresh and cancel."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import AuditEntry
from tests.factories import GPU_READINGS, make_chunks, make_latest
from tests.training.judging.judged import PARAMS as JUDGED_PARAMS
from tests.training.judging.judged import board, with_history
from tests.training.pages import ENERGY, RESULT, finished, job_in, text, with_steps
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.stored_steps import columns, put
from training.judging.judge import judge
from training.models import JobState, ReferenceJob, Run

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]


@pytest.mark.parametrize("state", [state for state in JobState if state != JobState.DONE])
def test_every_state_is_shown_with_its_reason(viewer, state):
    job = job_in(state, reason=f"because it is <{state}>")

    page = viewer.get(f"/reference/{job.pk}/").content.decode()

    assert re.search(rf'<p class="reason \w+">.*because it is &lt;{state}&gt;', page, re.DOTALL)
    assert re.search(rf'<span class="pill \w+">.*{state}</span>', page)


def test_a_queued_job_without_a_reason_says_what_it_waits_for(viewer):
    job = job_in(JobState.QUEUED)

    assert "The order is on its way: a has not taken it yet." in text(viewer.get(f"/reference/{job.pk}/"))


def test_a_running_job_shows_how_far_it_is(viewer):
    job = with_steps(job_in(JobState.RUNNING, stage="measure", step=26, total_steps=65), *[2.0] * 26, warm_up=5)

    page = text(viewer.get(f"/reference/{job.pk}/"))

    assert "step 26 of 65" in page
    assert "40 %" in page
    assert "about 1 min 18 s left" in page.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_job_that_trains_nothing_has_a_check_in_place_of_a_loss(viewer):
    result = RESULT | {"loss_start": None, "loss_end": None, "parameters": None, "check": "each sum is right"}
    job = job_in(JobState.DONE, workload="allreduce", result=result)

    response = viewer.get(f"/reference/{job.pk}/")

    assert "Checked each sum is right" in text(response)
    assert "Loss" not in {figure.label for figure in response.context["figures"]}


def test_running_figures_leave_the_warm_up_out(viewer):
    job = with_steps(job_in(JobState.RUNNING, stage="measure", total_steps=65), 9.0, 0.5, 0.5, 1.0, warm_up=1)

    figures = {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}

    assert figures["Throughput"].value == pytest.approx(3 * 8 / 2.0)
    assert figures["Step time, median"].value == 0.5
    assert figures["Loss"].value == pytest.approx(4.7)
    assert figures["Samples per joule"].value is None


@pytest.mark.parametrize(
    ("state", "stage", "at"),
    [
        (JobState.QUEUED, "", "Claim host"),
        (JobState.STARTING, "", "Check"),
        (JobState.RUNNING, "build", "Build"),
        (JobState.RUNNING, "warm up", "Warm up, 5 steps"),
        (JobState.RUNNING, "measure", "Measure, 60 steps"),
        (JobState.RUNNING, "finish", "Compare"),
    ],
)
def test_each_stage_is_told_by_its_name(viewer, state, stage, at):
    job = job_in(state, stage=stage)

    stages = viewer.get(f"/reference/{job.pk}/").context["progress"].stages

    assert [each.label for each in stages if each.progress == "now"] == [at]
    assert [each.progress for each in stages].count("done") == [each.label for each in stages].index(at)


def test_a_job_that_is_done_waits_for_its_comparison_and_tells_what_came_of_it(viewer):
    job = finished()
    waiting = viewer.get(f"/reference/{job.pk}/", headers={"HX-Request": "true"})
    assert (waiting.context["progress"].stages[-1].progress, "sw:tick" in live_part(waiting.content.decode())) == (
        "now",
        True,
    )

    judge(job, timezone.now())

    over = viewer.get(f"/reference/{job.pk}/", headers={"HX-Request": "true"})
    assert (over.context["progress"].stages[-1].label, "sw:tick" in live_part(over.content.decode())) == (
        "Compare: no baseline",
        False,
    )


def with_telemetry(job, start_ms, n_seconds, **columns):
    """Store a sample a second of the job's device; each column is what it reads all the time."""
    times = [start_ms + 1000 * tick for tick in range(n_seconds + 1)]
    make_chunks(job.host, [job.device], times, {name: [[value] * len(times)] for name, value in columns.items()})


def test_samples_per_joule_are_told_while_it_measures_of_the_steps_that_telemetry_covers(viewer):
    job = job_in(JobState.RUNNING, stage="measure", host=ready_host("a"))
    run = Run.objects.create(name="reference gpt-train", launch="x", host=job.host)
    put(run, columns(*[1.0] * 20, samples=[8] * 20, first_ms=1_700_000_000_000))
    ReferenceJob.objects.filter(pk=job.pk).update(run=run)
    with_telemetry(job, 1_699_999_999_000, 16, power_draw_watts=400.0)
    make_latest(job.host, {job.device: GPU_READINGS})

    figures = {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}

    assert figures["Samples per joule"].value == pytest.approx(8 / 400)
    assert "estimated" in figures["Samples per joule"].note


def test_the_hottest_moment_of_the_measured_steps_stays_with_the_result(viewer):
    job = finished(host=ready_host("a"))
    with_telemetry(job, RESULT["window_start_ms"] - 5_000, 10, temperature_celsius=66.0)

    figures = {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}

    assert figures["Hottest device"].value == 66.0


def test_a_running_job_is_told_against_its_devices_own_baseline(viewer):
    host = with_history(board("a"))
    job = with_steps(existing_job(host, JobState.RUNNING, params=JUDGED_PARAMS), 1.25, 1.25)
    device = job.device
    make_latest(host, {device: GPU_READINGS | {"temperature_celsius": 84.0, "clock_event_reasons": float(0x20)}})

    figures = {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}

    assert figures["Throughput"].note == "−20.0 % on baseline so far"
    assert (figures["Step time, median"].note, figures["Step time, median"].note_value) == ("baseline, n 10,", 1.0)
    assert (figures["Hottest device"].value, figures["Hottest device"].note) == (
        84.0,
        "throttled: software thermal slowdown",
    )


def test_a_finished_job_shows_its_result_and_where_each_figure_comes_from(viewer):
    page = text(viewer.get(f"/reference/{finished().pk}/"))

    assert "504 sequences ÷ 20.5 s = 24.6 sequences/s" in page
    assert "504 sequences ÷ 985 J = 0.512 sequences/J" in page
    assert "2.51 GFLOP × 24.6 sequences/s = 61.7 GFLOP/s" in page
    assert "6N + 12·L·H·Q·T" in page
    assert "torch 2.13.0" in page


def test_a_finished_job_that_counts_no_flops_says_so_and_not_that_it_did_not_finish(viewer):
    result = RESULT | {"flops_per_sample": None, "achieved_flops_per_second": None, "flops_method": "nothing to count"}
    job = job_in(JobState.DONE, result=result)

    response = viewer.get(f"/reference/{job.pk}/")

    assert "FLOPs per sample — nothing to count Energy" in text(response)
    achieved = next(figure for figure in response.context["figures"] if figure.label == "Achieved")
    assert (achieved.value, achieved.why) == (None, "the result counts no FLOPs")


def test_unknown_energy_is_a_dash_with_its_reason(viewer):
    job = finished(energy={"reason": "this machine offers no power reading"})

    page = viewer.get(f"/reference/{job.pk}/").content.decode()

    assert '<abbr class="faint" title="this machine offers no power reading">—</abbr>' in page


def test_energy_that_is_still_to_come_is_waited_for(viewer):
    page = viewer.get(f"/reference/{finished(energy={}).pk}/").content.decode()

    assert "still arriving" in page
    assert 'id="job-live"' in page
    assert "sw:tick" in live_part(page)


def live_part(page):
    return re.search(r'<div class="stack" id="job-live"[^>]*>', page)[0]


@pytest.mark.parametrize("state", list(JobState))
def test_a_page_asks_again_until_its_job_has_ended(viewer, state):
    job = job_in(state, result=RESULT if state == JobState.DONE else {}, energy=ENERGY)

    answer = viewer.get(f"/reference/{job.pk}/", headers={"HX-Request": "true"}).content.decode()

    assert ("hx-trigger" in live_part(answer)) == (not job.is_final)


@pytest.mark.parametrize(("minutes", "asks"), [(9, True), (11, False)])
def test_a_lost_jobs_page_asks_for_a_while_whether_it_was_finished_all_the_same(viewer, minutes, asks):
    job = job_in(JobState.LOST, ended_at=timezone.now() - timedelta(minutes=minutes))

    live = live_part(viewer.get(f"/reference/{job.pk}/").content.decode())

    assert ("hx-trigger" in live, "data-final" in live) == (asks, not asks)


def test_a_refresh_is_the_changing_parts_alone(viewer):
    job = job_in(JobState.RUNNING)

    answer = viewer.get(f"/reference/{job.pk}/", headers={"HX-Request": "true"}).content.decode()

    assert "<html" not in answer
    assert "step-chart" not in answer
    assert re.findall(r'id="(job-[a-z-]+)"', answer)[0] == "job-live"
    assert answer.count("hx-swap-oob") == 5


def test_cancelling_asks_once(operator):
    job = job_in(JobState.RUNNING)

    page = operator.get(f"/reference/{job.pk}/?confirm=cancel").content.decode()

    assert f'action="/reference/{job.pk}/cancel/"' in page
    assert f'action="/reference/{job.pk}/cancel/"' not in operator.get(f"/reference/{job.pk}/").content.decode()


def test_the_question_takes_the_focus_when_it_is_asked_and_not_at_a_refresh(operator):
    job = job_in(JobState.RUNNING)
    asked = {"HX-Request": "true", "HX-Target": "job-live"}
    path = f"/reference/{job.pk}/?confirm=cancel"

    assert " autofocus" in operator.get(path, headers=asked | {"HX-Trigger": "job-cancel-ask"}).content.decode()
    assert " autofocus" not in operator.get(path, headers=asked | {"HX-Trigger": "job-live"}).content.decode()


def test_a_cancel_is_passed_on_and_shown(operator):
    job = job_in(JobState.RUNNING)

    page = operator.post(f"/reference/{job.pk}/cancel/", follow=True)

    assert "Cancelling on a" in text(page)
    assert AuditEntry.objects.get().action == "reference.cancel"


def test_cancelling_a_job_that_has_ended_changes_nothing(operator):
    job = finished()

    response = operator.post(f"/reference/{job.pk}/cancel/")

    assert response.url == f"/reference/{job.pk}/"
    assert ReferenceJob.objects.get().state == JobState.DONE
    assert not AuditEntry.objects.exists()


def test_the_log_shows_its_tail_and_downloads_whole(viewer):
    lines = [f"2026-11-23 16:00:00.{i:03} step {i}" for i in range(300)]
    job = job_in(JobState.RUNNING, log="\n".join(lines))

    page = viewer.get(f"/reference/{job.pk}/").content.decode()
    whole = viewer.get(f"/reference/{job.pk}/log/")

    assert "last 200 of 300 lines" in page
    assert "step 299" in page
    assert "step 99\n" not in page
    assert whole.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert whole.content.decode().splitlines() == lines


def test_a_log_cannot_write_html(viewer):
    job = job_in(JobState.RUNNING, log="<script>alert(1)</script>")

    assert "<script>alert" not in viewer.get(f"/reference/{job.pk}/").content.decode()


def test_a_job_with_steps_leads_to_its_run(viewer):
    job = with_steps(job_in(JobState.RUNNING), 2.0, 0.5, warm_up=1)
    job.refresh_from_db()

    assert f'href="/runs/{job.run_id}/"' in viewer.get(f"/reference/{job.pk}/").content.decode()


def test_the_steps_come_as_arrays(viewer):
    job = with_steps(job_in(JobState.RUNNING), 2.0, 0.5, warm_up=1)

    answer = viewer.get(f"/reference/{job.pk}/steps/").json()

    assert [trace["y"] for trace in answer["traces"]][1] == [None, 0.5]


def test_what_the_harness_did_not_tell_is_left_open(viewer):
    job = finished(
        result=RESULT
        | dict.fromkeys(("model", "device_name", "precision", "data", "seed", "flops_method", "loss_method"))
    )

    page = text(viewer.get(f"/reference/{job.pk}/"))

    assert "Model — 3,178,496 parameters Device —" in page
    assert "None" not in page


def test_a_line_without_an_end_does_not_fill_the_page(viewer):
    job = job_in(JobState.RUNNING, log="12:00:01 begun\n" + "x" * 150_000)

    answer = viewer.get(f"/reference/{job.pk}/", headers={"HX-Request": "true"}).content.decode()

    assert "and 148,000 more characters" in answer
    assert len(answer) < 30_000
    assert len(viewer.get(f"/reference/{job.pk}/log/").content) == 150_015


def test_a_log_whose_beginning_the_host_let_go_of_says_so(viewer):
    job = job_in(JobState.RUNNING, log="step\n" * 40_000)

    assert "last 200 of 40000 lines that the host has kept" in text(viewer.get(f"/reference/{job.pk}/"))


@pytest.mark.parametrize("make", [job_in, finished])
def test_a_forced_job_says_why_it_was_forced(viewer, make):
    job = make(**{"state": JobState.RUNNING} if make is job_in else {}, forced="bob agreed <by mail>")

    assert "Forced bob agreed &lt;by mail&gt;" in text(viewer.get(f"/reference/{job.pk}/"))
    assert viewer.get(f"/api/v1/reference/jobs/{job.pk}").json()["forced"] == "bob agreed <by mail>"
