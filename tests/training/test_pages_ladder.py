"""The pages and the API of ladders, and of verdicts for scripts."""

import pytest

from fleet.access.audit import Actor
from fleet.models import Device, DeviceKind, Role
from tests.people import signed_in
from tests.training.judging.judged import NOW, board, judged, result, with_history
from tests.training.pages import form, text
from tests.training.reference_jobs import ready_host
from training.jobs import ladder_runs
from training.models import JobState, LadderProcess, LadderRun, LadderState, Outcome, ReferenceJob, Verdict

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]
JSON = "application/json"
QUIET = {"foreign_cores": 0.0, "involuntary_context_switches": 1, "first_step_seconds": 3.0}


def climbed(n_blocks: int = 3) -> LadderRun:
    """Return a ladder whose processes have all ended, each rung a tenth faster, TF32 not offered."""
    run = ladder_runs.start("gpt-train", "a", {}, actor=Actor("ada"), now=NOW, n_blocks=n_blocks)
    for block, order in enumerate(run.order):
        for rung in order:
            measured = result(0.9**rung * (1 + block / 500), **QUIET)
            job = ReferenceJob.objects.create(
                launch=f"{block}{rung}", workload="gpt-train", host=run.host, device=run.device, result=measured,
                state=JobState.DONE,
                time_limit_seconds=9, requested_by="ada", expires_at=NOW, ended_at=NOW, total_steps=45,
            )  # fmt: skip
            LadderProcess.objects.create(ladder=run, block=block, rung=rung, job=job)
    LadderRun.objects.filter(pk=run.pk).update(
        not_offered={"1": "precision: tf32 is not offered, this CPU has only fp32"}, state=LadderState.DONE
    )
    return run


def test_the_page_shows_k_of_each_rung_and_what_is_not_offered(viewer):
    board("a")
    run = climbed()

    response = viewer.get(f"/reference/ladders/{run.pk}/")

    shown = text(response)
    assert "1.23×" in shown
    assert "not offered: precision: tf32 is not offered" in shown
    told = viewer.get(f"/reference/ladders/{run.pk}/arrays/").json()
    assert told["traces"][1]["y"][:2] == [1.0, None]
    assert told["axes"]["xaxis"]["ticktext"][1] == "+ TF32<br>not offered"
    assert len(told["traces"]) == len(response.context["figure"]["data"])
    assert f"/reference/ladders/{run.pk}/" in viewer.get("/reference/ladders/").content.decode()


def test_the_chart_grows_as_processes_end(viewer):
    board("a")
    run = climbed()
    top = len(run.rungs) - 1
    LadderRun.objects.update(state=LadderState.RUNNING)
    ReferenceJob.objects.filter(ladder_process__rung=top).update(state=JobState.RUNNING, ended_at=None)

    def told() -> dict:
        return viewer.get(f"/reference/ladders/{run.pk}/arrays/").json()

    before = told()
    ReferenceJob.objects.filter(ladder_process__rung=top).update(state=JobState.DONE)
    after = told()

    assert (before["traces"][1]["y"][top], round(after["traces"][1]["y"][top], 2)) == (None, round(0.9**-top, 2))
    assert [each["traces"][1]["error_y"]["array"][top] for each in (before, after)] == [None, pytest.approx(0)]
    assert len(after["annotations"]) == len(before["annotations"]) + 1
    assert after["scale"][1] > before["scale"][1]


def test_the_page_asks_for_the_chart_again_as_long_as_the_ladder_runs(viewer):
    board("a")
    run = climbed()
    ended = viewer.get(f"/reference/ladders/{run.pk}/").content.decode()
    LadderRun.objects.update(state=LadderState.RUNNING)
    running = viewer.get(f"/reference/ladders/{run.pk}/").content.decode()

    assert ('data-every="86400"' in ended, " data-final" in ended) == (True, True)
    assert ('data-every="2"' in running, " data-final" in running) == (True, False)


def test_the_launch_forms_button_begins_a_ladder(operator):
    board("a")

    answer = operator.post("/reference/?view=launch", form(ladder="yes"))

    run = LadderRun.objects.get()
    assert answer.url == f"/reference/ladders/{run.pk}/"
    assert run.params["steps"] == 60
    assert operator.post("/reference/?view=launch", form(ladder="yes")).status_code == 409


def test_a_workload_without_a_ladder_is_refused_on_the_form(operator):
    board("a")

    answer = operator.post("/reference/?view=launch", form(ladder="yes", workload="gpt-lora"))

    assert answer.status_code == 400
    assert "has no ladder" in text(answer)
    assert not LadderRun.objects.exists()


def test_an_operator_cancels_a_ladder_and_a_viewer_may_not(operator, viewer):
    board("a")
    run = ladder_runs.start("gpt-train", "a", {}, actor=Actor("ada"), now=NOW)

    assert viewer.post(f"/reference/ladders/{run.pk}/cancel/").status_code == 403
    assert operator.post(f"/reference/ladders/{run.pk}/cancel/").status_code == 302

    run.refresh_from_db()
    assert run.state == LadderState.CANCELLED


def test_a_script_begins_reads_and_cancels_a_ladder(operator):
    board("a")

    begun = operator.post(
        "/api/v1/reference/ladders", {"workload": "gpt-train", "host": "a", "blocks": 3}, content_type=JSON
    )

    assert begun.status_code == 201
    path = f"/api/v1/reference/ladders/{begun.json()['id']}"
    assert [rung["name"] for rung in operator.get(path).json()["rungs"]][-1] == "compile"
    assert operator.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert operator.post(f"{path}/cancel").status_code == 409
    assert operator.get("/api/v1/reference/ladders").json()["count"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"workload": "none", "host": "a"}, "workload"),
        ({"workload": "gpt-train", "host": "nobody"}, "host"),
        ({"workload": "gpt-train", "host": "a", "blocks": 99}, "blocks"),
        ({"workload": "gpt-train", "host": "a", "params": {"steps": "x"}}, "steps"),
    ],
)
def test_a_ladder_that_cannot_be_is_refused_with_its_field(operator, body, field):
    board("a")

    answer = operator.post("/api/v1/reference/ladders", body, content_type=JSON)

    assert answer.status_code == 400
    assert answer.json()["error"]["field"] == field


def test_scripts_read_verdicts_and_have_them_confirmed(operator):
    verdict = judged(with_history(board("a")), 1.2)

    listed = operator.get("/api/v1/reference/verdicts?host=a&outcome=suspect").json()
    assert (listed["count"], listed["items"][0]["screens"][0]["n"]) == (1, 10)

    path = f"/api/v1/reference/jobs/{verdict.job_id}"
    assert operator.get(f"{path}/verdict").json()["outcome"] == Outcome.SUSPECT
    assert operator.post(f"{path}/confirm").json()["is_open"] is True
    assert operator.post(f"{path}/confirm").status_code == 409
    assert Verdict.objects.get(pk=verdict.pk).asked_by


@pytest.mark.parametrize(
    "path",
    [
        "reference/verdicts",
        "reference/baselines",
        "reference/jobs/1/verdict",
        "reference/ladders",
        "reference/ladders/1",
    ],
)
def test_scripts_need_a_login(client, path):
    assert client.get(f"/api/v1/{path}").status_code == 401


def test_scripts_accept_a_baseline_and_list_what_was_accepted(operator):
    verdict = judged(with_history(board("a")), 1.2)
    path = f"/api/v1/reference/jobs/{verdict.job_id}/accept"

    made = operator.post(path, {"reason": "new driver"}, content_type=JSON)

    assert (made.status_code, made.json()["all_workloads"]) == (201, False)
    listed = operator.get("/api/v1/reference/baselines").json()
    assert [(item["host"], item["reason"], item["job"]) for item in listed["items"]] == [
        ("a", "new driver", verdict.job_id)
    ]
    again = operator.post(path, {"reason": "new driver"}, content_type=JSON)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "not_acceptable")
    assert operator.post(path, {}, content_type=JSON).status_code == 400
    missing = operator.post("/api/v1/reference/jobs/99/accept", {"reason": "x"}, content_type=JSON)
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "path",
    ["reference/jobs/1/confirm", "reference/jobs/1/accept", "reference/ladders", "reference/ladders/1/cancel"],
)
def test_a_viewers_script_changes_nothing(path):
    body = {"workload": "gpt-train", "host": "a"}

    assert signed_in(Role.VIEWER).post(f"/api/v1/{path}", body, content_type=JSON).status_code == 403


@pytest.mark.parametrize("path", ["reference/jobs/9/verdict", "reference/ladders/9"])
def test_what_is_not_there_is_not_found(viewer, path):
    assert viewer.get(f"/api/v1/{path}").status_code == 404


@pytest.mark.parametrize("path", ["/reference/ladders/", "/reference/ladders/1/"])
def test_pages_of_ladders_need_a_login(client, path):
    assert client.get(path).status_code == 302


def test_the_ladder_climbs_on_the_device_that_the_form_chose(operator):
    ready_host("a", DeviceKind.NVIDIA, DeviceKind.CPU)

    operator.post("/reference/?view=launch", form(ladder="yes", device="cpu-a"))

    assert LadderRun.objects.get().device.uuid == "cpu-a"


@pytest.mark.parametrize(
    ("per", "words"), [("device", "one device at a time"), ("distributed", "not over all of them")]
)
def test_a_ladder_on_several_devices_of_a_host_is_refused(operator, per, words):
    host = ready_host("a", DeviceKind.NVIDIA)
    Device.objects.create(host=host, uuid="second", kind=DeviceKind.NVIDIA, index=1)

    answer = operator.post("/reference/?view=launch", form(ladder="yes", per=per))

    assert (answer.status_code, LadderRun.objects.count()) == (400, 0)
    assert words in text(answer)
