"""What a launch is refused for or held back by: devices in use, memory, how many jobs run and what they draw."""

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.models import AuditEntry, DeviceKind, Host
from telemetry.models import LatestState
from tests.training.judging.judged import board, finished
from tests.training.reference_jobs import ready_host
from training.jobs import admission, launch, readiness
from training.jobs.launch import LaunchRefused
from training.jobs.watch import watch
from training.judging.judge import judge
from training.models import JobState, Outcome, ReferenceJob
from training.workloads.catalog import validate

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("ada")]
ADA = Actor("ada")
PYTHON = {"pid": 4242, "command": "python train.py", "user": "bob", "memory_bytes": 2**30}


@pytest.fixture(autouse=True)
def _orders(outbox):
    """Orders go into the outbox."""


def report(host: Host, processes: list[dict[str, object]] | None = None, age_ms: int = 0, **values: float) -> Host:
    """Have the host's newest readings stand in the store, and who uses its device."""
    at_ms = int(timezone.now().timestamp() * 1000)
    uuid = host.devices.get().uuid
    newest = {uuid: {"at_ms": at_ms, "read_ms": at_ms, "values": values, "absent": {}}}
    users = {} if processes is None else {uuid: {"at_ms": at_ms - age_ms, "processes": processes}}
    LatestState.objects.create(host=host, at_ms=at_ms, devices=newest, processes=users)
    return host


def start(*names: str, **fields: object) -> list[ReferenceJob]:
    return launch.launch("gpt-train", names, fields.pop("params", {}), actor=ADA, **fields)


def held() -> set[str]:
    return set(ReferenceJob.objects.filter(state=JobState.QUEUED, sent_at=None).values_list("host__name", flat=True))


def test_a_device_that_somebody_else_uses_is_refused_by_name():
    report(board("a"), [PYTHON])

    with pytest.raises(LaunchRefused, match=r"a GPU 0: in use by python train.py 4242 \(bob\)") as refused:
        start("a")

    assert (refused.value.field, refused.value.is_busy) == ("hosts", True)


def test_it_may_be_forced_with_a_reason_which_is_kept_and_gets_no_verdict():
    report(board("a"), [PYTHON])

    (job,) = start("a", force_reason="bob agreed")

    assert AuditEntry.objects.get(action="reference.launch").detail["forced"] == "bob agreed"
    done = finished(job.host)
    ReferenceJob.objects.filter(pk=done.pk).update(forced="bob agreed")
    done.refresh_from_db()
    verdict = judge(done, timezone.now())
    assert (verdict.outcome, verdict.is_clean) == (Outcome.CONTAMINATED, False)
    assert "bob agreed" in verdict.reason


@pytest.mark.parametrize(
    ("processes", "age_ms"),
    [([], 0), (None, 0), ([PYTHON], 120_000), ([{"pid": 7, "command": "training/reference/start.py"}], 0)],
)
def test_a_free_device_or_one_of_which_nothing_is_known_is_not_refused(processes, age_ms):
    report(board("a"), processes, age_ms)

    assert len(start("a")) == 1


@pytest.mark.parametrize("kind", [DeviceKind.NVIDIA, DeviceKind.CPU])
def test_too_little_free_memory_for_what_an_earlier_run_took_is_refused(kind):
    host = ready_host("a", kind)
    params = validate("gpt-train", {})[1]
    finished(host, params=params, result={"peak_memory_bytes": 40 * 2**30})
    report(host, [], memory_total_bytes=80 * 2**30, memory_used_bytes=50 * 2**30)

    with pytest.raises(LaunchRefused, match=r"30.0 GiB of memory are free, an earlier run took 40.0 GiB"):
        start("a", params=params)


def test_of_many_earlier_runs_the_newest_tells_what_memory_it_takes(monkeypatch):
    monkeypatch.setattr(readiness, "_RUNS", 2)
    host, params = ready_host("a", DeviceKind.NVIDIA), validate("gpt-train", {})[1]
    now = timezone.now()
    for days_ago, gibibytes in ((3, 10), (2, 10), (1, 40)):
        job = finished(host, params=params, result={"peak_memory_bytes": gibibytes * 2**30})
        ReferenceJob.objects.filter(pk=job.pk).update(ended_at=now - timedelta(days=days_ago))
    report(host, [], memory_total_bytes=80 * 2**30, memory_used_bytes=50 * 2**30)

    with pytest.raises(LaunchRefused, match=r"an earlier run took 40.0 GiB"):
        start("a", params=params)


def test_what_is_over_the_limit_waits_and_follows_in_its_order(settings, outbox):
    settings.STEPWATT_JOBS_AT_ONCE = 2
    for name in "abcd":
        board(name)

    jobs = start("a", "b", "c", "d")

    assert held() == {"c", "d"}
    assert jobs[2].reason == "waits: 2 reference jobs run, the limit is 2"
    assert not outbox.taken("c")

    ReferenceJob.objects.filter(host__name="a").update(state=JobState.DONE)
    watch(timezone.now())

    assert held() == {"d"}
    assert len(outbox.taken("c")) == 1


def test_the_power_budget_counts_what_each_device_may_draw(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 1_000.0
    for name in "ab":
        report(board(name), [], power_limit_watts=700.0)
    report(board("c"), [], power_draw_watts=100.0)

    start("a", "b")

    assert held() == {"b"}
    assert "reference jobs may draw 700" in ReferenceJob.objects.get(host__name="b").reason


def test_a_device_without_a_limit_counts_with_its_models_tdp_and_says_so(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 1_000.0
    for name in "ab":
        host = board(name)
        host.devices.update(model="NVIDIA H100 80GB HBM3")
        report(host, [], memory_total_bytes=79.6 * 2**30, power_draw_watts=70.0)

    start("a", "b")

    waiting = ReferenceJob.objects.get(host__name="b").reason
    assert re.search(
        r"may draw 700\WW already of .*, this one 700\WW \(no limit is told: the TDP of H100 SXM.*\) more", waiting
    )


def test_of_an_unknown_model_what_it_draws_now_counts_and_is_marked(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 150.0
    for name in "ab":
        report(board(name), [], power_draw_watts=100.0)

    start("a", "b")

    waiting = ReferenceJob.objects.get(host__name="b").reason
    assert re.search(r"this one 100\WW \(no limit is told: what it draws now\) more", waiting)


def test_a_device_of_which_nothing_is_known_is_not_taken_for_one_that_draws_nothing(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 10_000.0
    report(board("a"), [], power_limit_watts=700.0)
    report(board("b"), [])

    start("a", "b")

    waiting = ReferenceJob.objects.get(host__name="b")
    why = "nothing tells what GPU 0 of b may draw, so under a power budget its job runs alone"
    assert waiting.reason == f"waits: {why}"
    ReferenceJob.objects.filter(host__name="a").update(state=JobState.DONE)
    watch(timezone.now())
    assert held() == set()


def test_while_one_of_unknown_draw_runs_no_other_is_let_in(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 10_000.0
    report(board("a"), [])
    report(board("b"), [], power_limit_watts=700.0)

    start("a", "b")

    waiting = ReferenceJob.objects.get(host__name="b").reason
    assert waiting == "waits: under a power budget a job runs alone of whose device nothing tells what it may draw"


def test_a_distributed_job_on_a_device_of_unknown_draw_is_refused_under_a_budget(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 10_000.0
    report(board("a"), [], power_limit_watts=700.0)
    report(board("b"), [])

    with pytest.raises(LaunchRefused, match="nothing tells what GPU 0 of b may draw") as refused:
        as_one("a", "b")

    assert refused.value.field == "hosts"


def test_without_a_budget_nobody_asks_what_a_device_draws():
    report(board("a"), [])
    report(board("b"), [])

    start("a", "b")

    assert held() == set()


def test_one_job_always_fits_a_power_budget(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 100.0
    report(board("a"), [], power_limit_watts=700.0)

    start("a")

    assert held() == set()


def test_a_held_job_that_is_never_let_in_ends_with_its_reason(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    board("a")
    board("b")
    start("a", "b")

    watch(timezone.now() + admission.HELD_FOR + timedelta(minutes=1))

    assert ReferenceJob.objects.get(host__name="b").reason == "other reference jobs did not end in time to let it start"


def test_a_held_job_can_be_cancelled(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    board("a")
    board("b")
    _, waiting = start("a", "b")

    assert launch.cancel(waiting, actor=ADA, now=timezone.now())
    assert waiting.state == JobState.CANCELLED


def test_a_reason_of_blanks_forces_nothing():
    report(board("a"), [PYTHON])

    with pytest.raises(LaunchRefused, match="in use by python"):
        start("a", force_reason="  \t ")


def test_a_device_that_was_taken_while_its_job_waited_is_waited_for_and_holds_up_nobody(settings, outbox):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    for name in "abc":
        board(name)
    start("a", "b", "c")
    report(Host.objects.get(name="b"), [PYTHON])
    ReferenceJob.objects.filter(host__name="a").update(state=JobState.DONE)

    watch(timezone.now())

    waiting = ReferenceJob.objects.get(host__name="b")
    assert held() == {"b"}
    assert waiting.reason == "waits for its device: b GPU 0: in use by python train.py 4242 (bob)"
    watch(timezone.now() + admission.HELD_FOR + timedelta(minutes=1))
    waiting.refresh_from_db()
    assert waiting.reason == "given up: waits for its device: b GPU 0: in use by python train.py 4242 (bob)"


def test_a_forced_job_starts_on_a_device_in_use_also_when_it_had_to_wait(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    board("a")
    report(board("b"), [PYTHON])
    start("a", "b", force_reason="bob agreed")

    ReferenceJob.objects.filter(host__name="a").update(state=JobState.DONE)
    watch(timezone.now())

    assert held() == set()


def as_one(*names: str) -> list[ReferenceJob]:
    return launch.launch_selected("gpt-train", [(name, "") for name in names], {}, actor=ADA, as_one=True)


def test_a_distributed_job_above_the_power_budget_by_itself_is_refused(settings):
    settings.STEPWATT_JOBS_POWER_WATTS = 1_000.0
    for name in "ab":
        report(board(name), [], power_limit_watts=700.0)

    with pytest.raises(LaunchRefused, match=r"its devices may draw 1[.,]4.*together") as refused:
        as_one("a", "b")

    assert (refused.value.field, refused.value.is_busy) == ("hosts", False)


def test_one_that_waits_when_the_budget_is_lowered_holds_up_nobody(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 2
    for name in "abc":
        report(board(name), [], power_limit_watts=700.0)
    start("c")
    as_one("a", "b")
    report(board("d"), [], power_limit_watts=700.0)
    settings.STEPWATT_JOBS_AT_ONCE, settings.STEPWATT_JOBS_POWER_WATTS = 1, 1_000.0
    start("d")
    assert held() == {"a", "b", "d"}

    ReferenceJob.objects.filter(host__name="c").update(state=JobState.DONE)
    watch(timezone.now())

    assert held() == {"a", "b"}


def test_where_one_job_may_run_at_once_a_distributed_one_is_refused_in_words(settings):
    settings.STEPWATT_JOBS_AT_ONCE = 1
    board("a")
    board("b")

    with pytest.raises(LaunchRefused, match="one may run at once here"):
        as_one("a", "b")
