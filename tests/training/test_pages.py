"""The pages of reference jobs: launch form, live page, results, running, and who may do what on them."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.models import AuditEntry, DeviceKind, Origin, Role
from tests.people import signed_in
from tests.training.reference_jobs import existing_job, ready_host
from training.models import JobState, ReferenceJob, Run, Step

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]

LAUNCH = "/reference/?view=launch"
PARAMS = {"steps": 60, "warmup_steps": 5, "batch_size": 0, "precision": "auto", "seed": 1}
RESULT = {
    "model": "GPT 3M", "parameters": 3_178_496, "batch_size": 8, "data": "synthetic tokens", "measured_steps": 60,
    "measured_seconds": 20.5, "samples": 504, "window_start_ms": 1_700_000_000_000, "window_end_ms": 1_700_000_020_000,
    "samples_per_second": 504 / 20.5, "tokens_per_second": 3148.8, "step_seconds_median": 0.331, "step_seconds_p95": 0.352,
    "flops_per_sample": 2_510_000_000, "flops_method": "6N + 12·L·H·Q·T", "achieved_flops_per_second": 6.1746e10,
    "loss_start": 6.2, "loss_end": 4.9, "loss_method": "mean of the first 5 steps", "warmup_steps": 5, "seed": 1,
    "precision": "fp32", "device_name": "model cpu", "threads": 2, "peak_memory_bytes": 640_000_000,
    "peak_memory_method": "resident set", "versions": {"torch": "2.13.0"},
}  # fmt: skip
ENERGY = {"joules": 985.0, "mean_watts": 49.2, "samples_per_joule": 504 / 985, "method": "counter difference"}


def job_in(state, **fields):
    host = fields.pop("host", None) or ready_host("a", DeviceKind.CPU)
    return existing_job(host, state, **{"params": PARAMS} | fields)


def finished(**fields):
    now = timezone.now()
    times = {"started_at": now - timedelta(seconds=42), "ended_at": now}
    return job_in(JobState.DONE, **times | {"result": RESULT, "energy": ENERGY, "stage": "finish"} | fields)


def with_steps(job, *seconds, warm_up=0):
    run = Run.objects.create(name="gpt-train", launch=f"reference-{job.pk}", host=job.host)
    for i, step in enumerate(seconds):
        Step.objects.create(
            run=run, number=i + 1, ended_ms=1_700_000_000_000 + i, seconds=step, samples=8, tokens=1024, loss=5 - i / 10,
            is_warmup=i < warm_up,
        )  # fmt: skip
    ReferenceJob.objects.filter(pk=job.pk).update(run=run)
    return job


def form(**fields):
    return {"workload": "gpt-train", "host": ["a"], **{name: str(value) for name, value in PARAMS.items()}, **fields}


def text(response):
    """What a reader sees: without tags, gaps made one space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


@pytest.fixture
def viewer():
    return signed_in(Role.VIEWER)


@pytest.fixture
def operator():
    return signed_in(Role.OPERATOR)


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


# The launch form -----------------------------------------------------------------------------------------------


def test_a_launch_on_one_host_leads_to_its_job(operator):
    ready_host()

    response = operator.post(LAUNCH, form(steps="30"))

    job = ReferenceJob.objects.get()
    assert response.url == f"/reference/{job.pk}/"
    assert (job.workload, job.params, job.requested_by) == ("gpt-train", PARAMS | {"steps": 30}, "operator")
    assert AuditEntry.objects.get().action == "reference.launch"


def test_a_launch_on_several_hosts_leads_to_what_runs(operator):
    ready_host("a")
    ready_host("b")

    response = operator.post(LAUNCH, form(host=["a", "b"]))

    assert response.url == "/reference/?view=running"
    assert ReferenceJob.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": []}, "choose at least one host"),
        ({"host": ["nobody"]}, "there is no host named"),
        ({"workload": "mine-coins"}, "is not one of resnet-train, gpt-train"),
        ({"steps": "4"}, "4 is not between 5 and 100000"),
        ({"steps": "many"}, "is not a whole number"),
        ({"precision": "fp4"}, "is not one of auto, fp32, bf16"),
    ],
)
def test_a_wrong_launch_comes_back_with_the_reason(operator, change, words):
    ready_host()

    response = operator.post(LAUNCH, form(**change))

    assert response.status_code == 400
    assert words in text(response)
    assert not ReferenceJob.objects.exists()


def test_a_refused_launch_keeps_what_was_typed(operator):
    ready_host()

    page = operator.post(LAUNCH, form(steps="4", seed="77")).content.decode()

    assert 'value="77"' in page
    assert re.search(r'name="steps"[^>]*value="4"[^>]*aria-invalid="true"', page)
    assert re.search(r'name="host" value="a" checked', page)


def test_a_host_that_became_busy_is_a_conflict(operator):
    job_in(JobState.RUNNING)

    response = operator.post(LAUNCH, form())

    assert response.status_code == 409
    assert "a is busy with reference job" in text(response)


@pytest.mark.parametrize(
    ("fields", "state", "words"),
    [
        ({}, JobState.RUNNING, "running job"),
        ({"origin": Origin.SIMULATED}, None, "simulated"),
        ({"origin": Origin.IMPORTED}, None, "imported"),
    ],
)
def test_a_host_that_cannot_run_is_off_with_its_reason(operator, fields, state, words):
    host = ready_host("a", **fields)
    if state:
        existing_job(host, state)

    response = operator.get(f"{LAUNCH}&host=a")

    assert re.search(r'class="off" title="a [^"]+"><input[^>]*value="a" disabled', response.content.decode())
    assert words in text(response)


def test_a_silent_host_can_be_chosen_and_is_told_to_wait(operator):
    ready_host("a", heard_at=None, last_seen_at=None)

    response = operator.get(f"{LAUNCH}&host=a")

    assert re.search(r'value="a" checked>', response.content.decode())
    assert "silent, would wait" in text(response)


def test_the_form_knows_how_long_the_last_run_took(operator):
    finished()

    assert "about 42 s, from its last run" in text(operator.get(f"{LAUNCH}&workload=gpt-train&host=a"))
    assert "not known yet" in text(operator.get(f"{LAUNCH}&workload=resnet-train&host=a"))


def test_the_device_that_is_shown_is_the_one_that_the_job_gets(operator):
    ready_host("a", DeviceKind.AMD, DeviceKind.CPU, DeviceKind.NVIDIA)

    shown = operator.get(f"{LAUNCH}&host=a").context["form"].chosen[0].device
    operator.post(LAUNCH, form())

    assert ReferenceJob.objects.get().device == shown


def test_a_host_that_the_link_names_must_exist(operator):
    response = operator.get(f"{LAUNCH}&host=nobody")

    assert response.status_code == 400
    assert "there is no host named" in text(response)


@pytest.mark.parametrize(("part", "words"), [("settings", "2. Settings"), ("before", "Asked for by")])
def test_a_part_of_the_form_comes_alone(operator, part, words):
    page = text(operator.get(f"{LAUNCH}&part={part}"))

    assert words in page
    assert "3. Hosts" not in page


def test_the_picker_costs_the_same_number_of_queries_whatever_the_fleet(operator):
    for i in range(3):
        finished(host=ready_host(f"h{i}"))
    few = queries_of(operator)
    for i in range(3, 20):
        finished(host=ready_host(f"h{i}"))

    assert queries_of(operator) == few


def queries_of(client):
    with CaptureQueriesContext(connection) as captured:
        client.get(LAUNCH)
    return len(captured)


# The live page -------------------------------------------------------------------------------------------------


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


def test_the_steps_come_as_arrays(viewer):
    job = with_steps(job_in(JobState.RUNNING), 2.0, 0.5, warm_up=1)

    answer = viewer.get(f"/reference/{job.pk}/steps/").json()

    assert [trace["y"] for trace in answer["traces"]][1] == [None, 0.5]


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


def test_recent_jobs_of_one_host(viewer):
    job = job_in(JobState.RUNNING, step=13, total_steps=65)
    finished(host=ready_host("b"))

    response = viewer.get("/reference/recent/?host=a")

    assert [row.job for row in response.context["rows"]] == [job]
    assert "20 %" in text(response)


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
