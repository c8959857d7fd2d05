"""The live page of a reference job: its states, figures, log, refresh and cancel."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.models import AuditEntry
from tests.training.pages import ENERGY, RESULT, finished, job_in, text, with_steps
from training.models import JobState, ReferenceJob

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

    page = text(viewer.get(f"/reference/{job.pk}/"))

    assert "Checked each sum is right" in page
    assert "the workload trains nothing" in page


def test_running_figures_leave_the_warm_up_out(viewer):
    job = with_steps(job_in(JobState.RUNNING, stage="measure", total_steps=65), 9.0, 0.5, 0.5, 1.0, warm_up=1)

    figures = {figure.label: figure for figure in viewer.get(f"/reference/{job.pk}/").context["figures"]}

    assert figures["Throughput"].value == pytest.approx(3 * 8 / 2.0)
    assert figures["Step time, median"].value == 0.5
    assert figures["Loss"].value == pytest.approx(4.7)
    assert figures["Achieved"].value is None


def test_a_finished_job_shows_its_result_and_where_each_figure_comes_from(viewer):
    page = text(viewer.get(f"/reference/{finished().pk}/"))

    assert "504 sequences ÷ 20.5 s = 24.6 sequences/s" in page
    assert "504 sequences ÷ 985 J = 0.512 sequences/J" in page
    assert "2.51 GFLOP × 24.6 sequences/s = 61.7 GFLOP/s" in page
    assert "6N + 12·L·H·Q·T" in page
    assert "torch 2.13.0" in page


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
