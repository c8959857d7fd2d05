"""The pages of reference jobs: who may do what on them, what is not there, results, running, recent."""

import re

import pytest
from django.test import Client

from fleet.models import Host, Origin, Role
from fleet.web import shared_answer
from tests.people import signed_in
from tests.training.judging.judged import board, judged, with_history
from tests.training.pages import LAUNCH, finished, form, job_in, text
from tests.training.reference_jobs import existing_job, ready_host
from training.models import JobState, ReferenceJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]

# Who may see and do what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "?view=launch", "?view=running", "recent/", "1/", "1/steps/", "1/log/"])
def test_strangers_are_sent_to_the_login_page(path):
    response = Client().get(f"/reference/{path}")

    assert (response.status_code, response.url.partition("?")[0]) == (302, "/login/")


@pytest.mark.parametrize("path", ["/reference/?view=launch", "/reference/1/cancel/"])
def test_strangers_start_and_cancel_nothing(path):
    job = existing_job(ready_host())

    response = Client().post(path.replace("1", str(job.pk)), form())

    assert response.status_code == 302
    assert list(ReferenceJob.objects.values_list("cancel_requested_at", flat=True)) == [None]


def test_a_viewer_cannot_launch(viewer):
    ready_host()

    assert viewer.post(LAUNCH, form()).status_code == 403
    assert not ReferenceJob.objects.exists()


def test_a_viewer_sees_why_the_button_is_off(viewer):
    ready_host()

    response = viewer.get(LAUNCH)

    assert re.search(
        r'<button class="btn primary go" disabled aria-describedby="launch-why">', response.content.decode()
    )
    assert "Launching needs the role operator" in text(response)


def test_a_viewer_cannot_cancel(viewer):
    job = job_in(JobState.RUNNING)

    assert viewer.post(f"/reference/{job.pk}/cancel/").status_code == 403
    assert ReferenceJob.objects.get().cancel_requested_at is None
    assert 'title="Cancelling needs the role operator"' in viewer.get(f"/reference/{job.pk}/").content.decode()


@pytest.mark.parametrize("path", [LAUNCH, "/reference/1/cancel/"])
def test_a_post_without_the_csrf_token_is_refused(path):
    job = existing_job(ready_host())
    client = signed_in(Role.OPERATOR, enforce_csrf_checks=True)

    assert client.post(path.replace("1", str(job.pk)), form()).status_code == 403
    assert ReferenceJob.objects.get().cancel_requested_at is None


# What is not there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["7/", "7/steps/", "7/log/"])
def test_a_job_that_is_not_there_is_not_found(viewer, path):
    assert viewer.get(f"/reference/{path}").status_code == 404


def test_a_job_that_is_not_there_cannot_be_cancelled(operator):
    assert operator.post("/reference/7/cancel/").status_code == 404


@pytest.mark.parametrize("query", ["view=matrix", "workload=mine-coins", "state=happy"])
def test_a_view_or_filter_that_is_not_there_is_not_found(viewer, query):
    assert viewer.get(f"/reference/?{query}").status_code == 404


def test_recent_jobs_of_a_host_that_is_not_there_are_not_found(viewer):
    assert viewer.get("/reference/recent/?host=nobody").status_code == 404


def test_cancelling_is_a_post(operator):
    job = job_in(JobState.RUNNING)

    assert operator.get(f"/reference/{job.pk}/cancel/").status_code == 405


# Results, running, recent --------------------------------------------------------------------------------------


def test_an_empty_page_says_what_to_do(viewer):
    page = viewer.get("/reference/")

    assert "No reference job has run yet" in text(page)
    assert 'href="?view=launch"' in page.content.decode()


def test_results_show_the_figures_of_done_jobs_and_the_reason_of_others(viewer):
    finished()
    job_in(JobState.FAILED, host=ready_host("b"), reason="torch is not installed on b")

    page = text(viewer.get("/reference/"))

    assert "331 ms" in page
    assert "24.6 /s" in page
    assert "49.2 W" in page
    assert "0.512 /J" in page
    assert "torch is not installed on b" in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [("", {"a", "b"}), ("state=done", {"a"}), ("state=failed", {"b"}), ("workload=resnet-train", {"b"})],
)
def test_results_are_filtered(viewer, query, shown):
    finished()
    job_in(JobState.FAILED, host=ready_host("b"), workload="resnet-train")

    assert {row.job.host.name for row in viewer.get(f"/reference/?{query}").context["rows"]} == shown


def test_running_shows_active_jobs_and_counts_them_in_its_tab(viewer):
    finished()
    job = job_in(JobState.RUNNING, host=ready_host("b"), step=13, total_steps=65)

    response = viewer.get("/reference/?view=running")

    assert [row.job for row in response.context["rows"]] == [job]
    assert "Running 1" in text(response)
    assert "20 %" in text(response)


def test_a_refresh_of_a_table_is_the_table_alone(viewer):
    finished()

    for query in ("", "view=running"):
        page = viewer.get(f"/reference/?{query}", headers={"HX-Request": "true"}).content.decode()
        assert "<html" not in page
        assert 'id="jobs"' in page


def test_recent_jobs_are_the_newest_six(viewer):
    host = ready_host()
    jobs = [existing_job(host, JobState.FAILED) for _ in range(7)]

    rows = viewer.get("/reference/recent/").context["rows"]

    assert [row.job for row in rows] == jobs[:0:-1]


@pytest.mark.parametrize("path", ["/reference/", "/reference/recent/", "/reference/{}/"])
def test_a_job_of_a_host_that_is_not_real_is_marked_beside_its_name(viewer, path):
    job = finished(host=ready_host("sim-01"))
    tag = '<span class="tag">simulated</span>'
    assert tag not in viewer.get(path.format(job.pk)).content.decode()
    Host.objects.update(origin=Origin.SIMULATED)
    shared_answer.forget()  # as seconds later

    assert tag in viewer.get(path.format(job.pk)).content.decode()


def test_recent_jobs_of_one_host(viewer):
    job = job_in(JobState.RUNNING, step=13, total_steps=65)
    finished(host=ready_host("b"))

    response = viewer.get("/reference/recent/?host=a")

    assert [row.job for row in response.context["rows"]] == [job]
    assert "20 %" in text(response)


@pytest.mark.parametrize("cluster", ["atlas", ""])
def test_recent_jobs_of_one_cluster(viewer, cluster):
    jobs = {name: finished(host=ready_host(f"of-{name or 'none'}", cluster=name)) for name in ("atlas", "")}

    rows = viewer.get("/reference/recent/", {"cluster": cluster}).context["rows"]
    file = viewer.get("/reference/recent/", {"cluster": cluster, "format": "csv"}).content.decode()

    assert [row.job for row in rows] == [jobs[cluster]]
    assert len(file.splitlines()) == 2


def test_a_recent_job_stands_beside_its_baseline(viewer):
    host = with_history(board("gpu-01"))
    slow = judged(host, 1.25).job

    response = viewer.get("/reference/recent/")

    cell = response.context["cells"][slow.pk]
    assert (cell.deviation, cell.is_flagged) == (pytest.approx(-0.2, abs=0.01), True)
    assert "−20.0" in text(response)


def test_tables_cost_the_same_number_of_queries_whatever_their_length(viewer, django_assert_num_queries):
    host = ready_host()
    for _ in range(40):
        finished(host=host)
    with django_assert_num_queries(6):  # session, user, role, count of the tab, count of the pages, jobs
        viewer.get("/reference/", headers={"HX-Request": "true"})


# The Content-Security-Policy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "?view=launch&host=a", "?view=running", "recent/", "{running}/", "{running}/?confirm=cancel", "{done}/"],
)
def test_no_page_has_inline_style_or_script(operator, path):
    done, running = finished(), job_in(JobState.RUNNING, host=ready_host("b"), log="x")

    page = operator.get("/reference/" + path.format(done=done.pk, running=running.pk)).content.decode()

    assert not re.search(r"<style|\sstyle=|\son\w+=|hx-on|javascript:", page)
    assert all('type="application/json"' in tag or "src=" in tag for tag in re.findall(r"<script[^>]*>", page))
