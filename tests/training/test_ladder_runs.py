"""A ladder from its start to its end, its processes ended by hand."""

from datetime import timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Host, Origin
from tests.training.judging.judged import NOW, board, result
from tests.training.reference_jobs import existing_job
from training.jobs import ladder_runs, orders
from training.jobs.launch import LaunchRefused
from training.models import JobState, LadderProcess, LadderRun, LadderState, ReferenceJob

pytestmark = pytest.mark.django_db
STEP = {"fp32 eager": 1.0, "TF32": 0.8, "bf16": 0.5, "fused kernels": 0.45, "compile": 0.4}
CHANGES = {
    "threads": 64,
    "foreign_cores": 0.1,
    "involuntary_context_switches": 3,
    "first_step_seconds": 2.0,
    "loss_start": 5.0,
    "loss_end": 4.0,
}


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    """What would go to the broker: the process's edge."""
    messages = []
    monkeypatch.setattr(orders, "_send", lambda task, each: messages.extend((task, order.host) for order in each))
    return messages


def start(**fields) -> LadderRun:
    board("a")
    return ladder_runs.start("gpt-train", "a", fields.pop("params", {}), actor=Actor("ada"), now=NOW, **fields)


def turn(minute: float) -> ReferenceJob | None:
    """Let beat come once; returns the process that runs now."""
    at = NOW + timedelta(minutes=minute)
    Host.objects.update(heard_at=at)
    ladder_runs.follow(at)
    newest = LadderProcess.objects.select_related("job").order_by("-pk").first()
    return None if newest is None or newest.job.is_final else newest.job


def end(job: ReferenceJob, minute: float, **fields: object) -> None:
    process = job.ladder_process
    seconds = STEP[process.ladder.rungs[process.rung]["name"]]
    done = {
        "state": JobState.DONE,
        "result": result(seconds, **CHANGES),
        "total_steps": 45,
        "ended_at": NOW + timedelta(minutes=minute),
    }
    ReferenceJob.objects.filter(pk=job.pk).update(**done | fields)


def climb(run: LadderRun, without: dict[str, str] | None = None) -> LadderRun:
    """End each process as it comes; `without` are reasons by parameter value for which one fails."""
    for minute in range(1, 100):
        job = turn(minute)
        if job is None:
            continue
        reason = next((why for value, why in (without or {}).items() if value in job.params.values()), "")
        end(job, minute, **({"state": JobState.FAILED, "reason": reason, "result": {}} if reason else {}))
    run.refresh_from_db()
    return run


def test_each_rung_runs_once_a_block_and_one_at_a_time():
    run = start(n_blocks=3)
    assert turn(1) == turn(1.1)

    assert climb(run).state == LadderState.DONE

    places = list(run.processes.values_list("block", "rung"))
    assert sorted(places) == [(block, rung) for block in range(3) for rung in range(5)]
    assert [rung for _, rung in places] == [rung for block in run.order for rung in block]


def test_its_result_is_k_of_each_rung():
    found = ladder_runs.result(climb(start(n_blocks=3)))

    assert [round(each.steady.k, 2) for each in found] == [1.0, 1.25, 2.0, 2.22, 2.5]


def test_a_device_without_a_precision_climbs_on_without_it():
    why = "precision: bf16 is not offered, this CPU has only fp32"
    run = climb(start(n_blocks=2), {"bf16": why, "tf32": "precision: tf32 is not offered, this CPU has only fp32"})

    found = ladder_runs.result(run)

    assert run.state == LadderState.DONE
    assert [bool(each.why_not) for each in found] == [False, True, True, False, False]
    assert found[2].why_not == why
    assert {p.job.params["precision"] for p in run.processes.filter(rung__in=(3, 4))} == {"fp32"}
    assert found[4].steady.n_blocks == 2


def test_a_host_without_a_compiler_does_not_offer_that_rung():
    run = climb(start(n_blocks=2), {"on": "compile is not offered: torch.compile needs a C++ compiler"})

    assert "C++ compiler" in ladder_runs.result(run)[4].why_not
    assert run.processes.filter(rung=4).count() == 1
    assert ladder_runs.n_processes(run) == run.processes.count() == 9


def test_without_a_result_of_the_first_rung_it_fails_with_the_reason():
    run = climb(start(n_blocks=2), {"fp32": "out of memory"})

    assert run.state == LadderState.FAILED
    assert "out of memory" in run.reason


def test_with_every_process_of_the_first_rung_contaminated_it_fails_and_names_them():
    run = start(n_blocks=1)
    for minute in range(1, 6):
        end(turn(minute), minute, result=result(1.0, **CHANGES | {"foreign_cores": 40.0}))
    turn(7)

    run.refresh_from_db()
    assert run.state == LadderState.FAILED
    assert "others kept 40.0 of its cores busy" in run.reason


def test_cancelling_ends_its_process_too(sent):
    run = start()
    job = turn(1)

    assert ladder_runs.cancel(run, actor=Actor("ada"), now=NOW)
    assert not ladder_runs.cancel(run, actor=Actor("ada"), now=NOW)

    job.refresh_from_db()
    assert job.state == JobState.CANCELLED
    assert sent[-1][0] == "host.cancel_job"
    assert set(AuditEntry.objects.filter(subject="a").values_list("action", flat=True)) >= {
        "reference.ladder",
        "reference.ladder_cancel",
    }


def test_a_cancelled_process_ends_the_ladder():
    run = start()
    end(turn(1), 1, state=JobState.CANCELLED)
    turn(2)

    run.refresh_from_db()
    assert run.state == LadderState.CANCELLED


def test_a_silent_host_is_waited_for_a_day():
    run = start()
    Host.objects.update(heard_at=NOW - timedelta(hours=1))
    ladder_runs.follow(NOW + timedelta(hours=1))
    assert not run.processes.exists()

    ladder_runs.follow(NOW + timedelta(hours=25))

    run.refresh_from_db()
    assert (run.state, run.reason) == (LadderState.FAILED, "a was not there and idle for 1 day")


def test_what_the_rungs_set_is_not_taken_from_the_launch():
    assert not start(params={"precision": "bf16", "steps": 9}).params.keys() & {"precision", "compile", "kernels"}


@pytest.mark.parametrize(
    ("workload", "fields", "field"),
    [
        ("none", {}, "workload"),
        ("gpt-lora", {}, "workload"),
        ("gpt-train", {"n_blocks": 0}, "blocks"),
        ("gpt-train", {"device_uuid": "x"}, "device"),
    ],
)
def test_what_cannot_be_climbed_is_refused_with_its_field(workload, fields, field):
    board("a")

    with pytest.raises(LaunchRefused) as refused:
        ladder_runs.start(workload, "a", {}, actor=Actor("ada"), now=NOW, **fields)

    assert refused.value.field == field


def test_a_simulated_host_climbs_none():
    board("a")
    Host.objects.update(origin=Origin.SIMULATED)

    with pytest.raises(LaunchRefused, match="a is simulated: its trainings take the same") as refused:
        ladder_runs.start("gpt-train", "a", {}, actor=Actor("ada"), now=NOW)

    assert refused.value.field == "hosts"


def test_a_host_climbs_one_ladder_at_a_time():
    start()

    with pytest.raises(LaunchRefused, match="has a ladder already") as refused:
        ladder_runs.start("gpt-train", "a", {}, actor=Actor("ada"), now=NOW)

    assert refused.value.is_busy


def test_one_that_is_cancelled_while_its_turn_comes_starts_nothing_more(monkeypatch):
    for name in "ab":
        board(name)
    first, second = (ladder_runs.start("gpt-train", name, {}, actor=Actor("ada"), now=NOW, n_blocks=1) for name in "ab")
    monkeypatch.setattr(orders, "_send", lambda task, each: ladder_runs.cancel(second, actor=Actor("bob"), now=NOW))
    Host.objects.update(heard_at=NOW)

    ladder_runs.follow(NOW)

    assert (first.processes.count(), second.processes.count()) == (1, 0)
    second.refresh_from_db()
    assert second.state == LadderState.CANCELLED


def test_it_says_why_its_next_process_does_not_start():
    run = start()
    Host.objects.update(heard_at=NOW - timedelta(hours=1))
    ladder_runs.follow(NOW)
    run.refresh_from_db()
    assert run.reason == "waits: a is silent"

    other = existing_job(run.host, JobState.RUNNING)
    turn(1)
    run.refresh_from_db()
    assert run.reason.startswith(f"waits: a is busy with reference job {other.pk}")

    ReferenceJob.objects.update(state=JobState.DONE)
    assert turn(2)
    run.refresh_from_db()
    assert run.reason == ""


@pytest.mark.parametrize("seconds", [0.0, -1.0, None])
def test_a_process_without_a_step_that_can_be_is_left_out_and_named(seconds):
    run = start(n_blocks=1)
    for minute in range(1, 6):
        job = turn(minute)
        place = job.ladder_process.rung
        changed = {"result": result(1.0, **CHANGES, step_seconds_median=seconds)} if place == 2 else {}
        end(job, minute, **changed)

    found = ladder_runs.result(run)[2]

    assert found.steady is None
    assert found.left_out == (f"job {run.processes.get(rung=2).job_id}: its result tells of no step",)
