"""The reference jobs' buttons for scripts. Sign-in, roles and CSRF: tests/fleet/test_api.py."""

import pytest

from fleet.models import AuditEntry, DeviceKind, Role
from tests.people import script, signed_in
from tests.training.reference_jobs import RESULT, existing_job, ready_host
from tests.training.stored_steps import columns, put
from training.models import JobState, ReferenceJob, Run

pytestmark = pytest.mark.django_db

JOBS = "/api/v1/reference/jobs"


@pytest.fixture
def api(outbox):
    client = script(Role.OPERATOR)

    def ask(path, body=None, **parameters):
        if body is None:
            response = client.get(f"/api/v1/reference/{path}", parameters)
        else:
            response = client.post(f"/api/v1/reference/{path}", body, content_type="application/json")
        return response.status_code, response.json()

    return ask


def error(answer):
    status, body = answer
    return status, body["error"]["code"], body["error"].get("field")


def test_the_catalogue_tells_each_parameter_with_its_bounds(api):
    status, answer = api("workloads")

    assert (status, answer["count"]) == (200, len(answer["items"]))
    [gpt] = [item for item in answer["items"] if item["name"] == "gpt-train"]
    steps, precision = (next(p for p in gpt["params"] if p["name"] == name) for name in ("steps", "precision"))
    assert (steps["kind"], steps["minimum"], steps["choices"]) == ("integer", 5, [])
    assert (precision["kind"], precision["minimum"], precision["choices"]) == (
        "choice",
        None,
        ["auto", "fp32", "tf32", "bf16", "fp16"],
    )


def test_the_catalogue_tells_what_runs_where_and_how_flops_are_counted(api):
    _, answer = api("workloads")

    [lora] = [item for item in answer["items"] if item["name"] == "gpt-lora"]
    assert set(lora["sizes"]) == {"large", "small", "cpu", "ci"}
    assert lora["flops"].startswith("(4N + 6A")
    assert (lora["is_training"], lora["needs"]) == (True, "An NVIDIA GPU or a CPU.")


def test_a_launch_answers_one_job_a_host_and_sends_the_orders(api, outbox):
    ready_host("a")
    ready_host("b")

    status, answer = api("jobs", {"workload": "gpt-train", "hosts": ["a", "b"], "params": {"steps": 30}})

    assert (status, answer["count"]) == (201, 2)
    assert [(job["host"], job["state"]) for job in answer["items"]] == [("a", "queued"), ("b", "queued")]
    assert answer["items"][0]["params"]["steps"] == 30
    assert len(outbox.taken("a")) == len(outbox.taken("b")) == 1


def test_a_launch_by_a_script_names_its_token(api):
    ready_host()

    _, answer = api("jobs", {"workload": "gpt-train", "hosts": ["a"]})

    assert answer["items"][0]["requested_by"] == "token:script-operator"
    assert AuditEntry.objects.get().actor == "token:script-operator"


def test_a_signed_in_operator_may_launch(outbox):
    ready_host()

    response = signed_in(Role.OPERATOR).post(
        JOBS, {"workload": "gpt-train", "hosts": ["a"]}, content_type="application/json"
    )

    assert response.json()["items"][0]["requested_by"] == "operator"


def test_the_device_can_be_chosen(api):
    ready_host("a", DeviceKind.CPU, DeviceKind.NVIDIA)

    _, answer = api("jobs", {"workload": "gpt-train", "hosts": ["a"], "device": "cpu-a"})

    assert answer["items"][0]["device"] == "cpu-a"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"workload": "mine-coins"}, "workload"),
        ({"workload": None}, "workload"),
        ({"hosts": []}, "hosts"),
        ({"hosts": "a"}, "hosts"),
        ({"hosts": [7]}, "hosts"),
        ({"hosts": ["nobody"]}, "hosts"),
        ({"params": {"steps": 0}}, "steps"),
        ({"params": {"colour": "red"}}, "colour"),
        ({"params": []}, "params"),
        ({"device": "GPU-other"}, "device"),
        ({"priority": 1}, "priority"),
    ],
)
def test_a_wrong_launch_names_its_field_and_starts_nothing(api, change, field):
    ready_host()

    answer = api("jobs", {"workload": "gpt-train", "hosts": ["a"]} | change)

    assert error(answer) == (400, "invalid", field)
    assert not ReferenceJob.objects.exists()


def test_a_busy_host_is_a_conflict(api):
    existing_job(ready_host(), JobState.RUNNING)

    assert error(api("jobs", {"workload": "gpt-train", "hosts": ["a"]})) == (409, "host_busy", "hosts")


def test_a_job_that_has_not_begun_has_no_progress_rather_than_none_of_it(api):
    job = existing_job(ready_host())

    _, answer = api(f"jobs/{job.pk}")

    assert (answer["progress"], answer["total_steps"], answer["result"], answer["energy"]) == (None, None, None, None)
    assert (answer["device"], answer["device_model"], answer["requested_by"]) == ("nvidia-a", "model nvidia", "ada")


def test_a_running_job_tells_how_far_it_is(api):
    job = existing_job(ready_host(), JobState.RUNNING, stage="measure", step=15, total_steps=60)

    _, answer = api(f"jobs/{job.pk}")

    assert (answer["state"], answer["stage"], answer["progress"]) == ("running", "measure", 0.25)


def test_a_jobs_links_lead_somewhere(api):
    job = existing_job(ready_host())
    client = script(Role.VIEWER)

    links = api(f"jobs/{job.pk}")[1]["links"]

    assert {client.get(links[name]).status_code for name in ("self", "steps", "log")} == {200}
    assert script(Role.ADMIN).post(links["cancel"]).status_code == 200


@pytest.mark.parametrize("path", ["jobs/7", "jobs/7/log", "jobs/7/steps"])
def test_a_job_that_is_not_there_is_an_error(api, path):
    assert error(api(path)) == (404, "not_found", "job_id")


def test_jobs_are_listed_newest_first(api):
    host = ready_host()
    first, second = existing_job(host, JobState.DONE), existing_job(host)

    _, answer = api("jobs")

    assert [job["id"] for job in answer["items"]] == [second.pk, first.pk]


@pytest.mark.parametrize(
    ("parameters", "states"),
    [
        ({"active": "true"}, ["running"]),
        ({"active": "false"}, ["failed", "done"]),
        ({"state": "failed"}, ["failed"]),
        ({"host": "b"}, ["running"]),
        ({"workload": "resnet-train"}, ["failed"]),
        ({"limit": 1}, ["running"]),
    ],
)
def test_jobs_are_filtered(api, parameters, states):
    a, b = ready_host("a"), ready_host("b")
    existing_job(a, JobState.DONE)
    existing_job(a, JobState.FAILED, workload="resnet-train")
    existing_job(b, JobState.RUNNING)

    _, answer = api("jobs", **parameters)

    assert [job["state"] for job in answer["items"]] == states


@pytest.mark.parametrize("path", ["jobs", "results"])
@pytest.mark.parametrize("field", ["host", "workload"])
def test_filters_name_what_there_is(api, path, field):
    assert error(api(path, **{field: "nobody"})) == (400, "invalid", field)


def test_jobs_cost_the_same_number_of_queries_whatever_their_number(api, django_assert_num_queries):
    host = ready_host()
    for _ in range(5):
        existing_job(host, JobState.DONE)
    api("jobs")  # notes the token's use

    with django_assert_num_queries(3):  # token, page, count
        api("jobs")


def test_the_log_is_the_jobs_own(api):
    job = existing_job(ready_host(), log="loss 4.0 at start")

    assert api(f"jobs/{job.pk}/log") == (200, {"log": "loss 4.0 at start"})


def test_steps_are_columns(api):
    host = ready_host()
    run = Run.objects.create(name="gpt-train", launch="reference-1", host=host)
    job = existing_job(host, JobState.RUNNING, run=run)
    put(run, columns(0.5, 0.4, number=[1, 2], ended_ms=[1000, 1500], loss=[float("nan"), 3.5], is_warmup=[True, False]))

    _, answer = api(f"jobs/{job.pk}/steps")

    assert answer == {
        "step": [1, 2],
        "time_ms": [1000, 1500],
        "seconds": [0.5, 0.4],
        "loss": [None, 3.5],
        "is_warmup": [True, False],
        "every": 1,
    }


def test_a_job_without_steps_has_empty_columns(api):
    job = existing_job(ready_host())

    assert api(f"jobs/{job.pk}/steps")[1]["step"] == []


def test_a_cancel_asks_the_host(api, outbox):
    job = existing_job(ready_host(), JobState.RUNNING)

    status, answer = api(f"jobs/{job.pk}/cancel", {})

    assert (status, answer["state"]) == (200, "running")
    assert answer["cancel_requested_at"]
    assert len(outbox.taken("a")) == 1


def test_a_cancel_of_what_has_ended_is_a_conflict(api):
    job = existing_job(ready_host(), JobState.DONE)

    assert error(api(f"jobs/{job.pk}/cancel", {})) == (409, "already_ended", None)


def test_a_cancel_of_nothing_is_an_error(api):
    assert error(api("jobs/7/cancel", {})) == (404, "not_found", "job_id")


def test_results_are_those_of_jobs_that_are_done(api):
    host = ready_host()
    done = existing_job(host, JobState.DONE, result=RESULT, energy={"mean_watts": 300.0})
    existing_job(host, JobState.FAILED, reason="no torch")

    _, answer = api("results")

    [item] = answer["items"]
    assert (item["job"], item["result"], item["energy"]) == (done.pk, RESULT, {"mean_watts": 300.0})
