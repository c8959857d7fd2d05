"""From a suspicion over fresh runs to a verdict."""

import re
from datetime import timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Host
from tests.training.judging.judged import NOW, SPREAD, board, finished, judged, result, with_history
from tests.training.reference_jobs import existing_job
from training.jobs import orders
from training.judging.baseline import Earlier
from training.judging.judge import judge
from training.judging.suspicion import MOST_RUNS, PATIENCE, NotConfirmable, ask, follow, open_suspicion, waits_for
from training.models import FreshRun, JobState, Outcome, ReferenceJob, Verdict

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def sent(monkeypatch):
    """What would go to the broker: the process's edge."""
    messages = []
    monkeypatch.setattr(orders, "_send", lambda task, each: messages.extend(order.host for order in each))
    return messages


@pytest.fixture
def suspect():
    verdict = judged(with_history(board("a")), 1.2)
    assert open_suspicion(verdict, NOW)
    return verdict


def end(job: ReferenceJob, seconds: float, minute: float, **changes: object) -> None:
    ended = NOW + timedelta(minutes=minute)
    ReferenceJob.objects.filter(pk=job.pk).update(
        state=JobState.DONE,
        result=result(seconds, **changes),
        energy={"reason": "none"},
        started_at=ended,
        ended_at=ended,
    )
    job.refresh_from_db()
    judge(job, ended)


def keep_alive(minute: float) -> None:
    Host.objects.update(heard_at=NOW + timedelta(minutes=minute))


def run_all(verdict: Verdict, seconds: list[float], **changes: object) -> Verdict:
    """Follow the suspicion, each fresh run ending with one of these medians, until it is settled."""
    for minute, each in enumerate(seconds, start=1):
        keep_alive(minute)
        follow(NOW + timedelta(minutes=minute))
        newest = FreshRun.objects.order_by("-pk").first()
        end(newest.job, each, minute, **changes)
    follow(NOW + timedelta(minutes=len(seconds) + 1))
    verdict.refresh_from_db()
    return verdict


def test_a_suspicion_starts_one_fresh_run_of_the_same_kind(suspect, sent):
    keep_alive(1)
    follow(NOW + timedelta(minutes=1))
    follow(NOW + timedelta(minutes=1))

    fresh = FreshRun.objects.get().job
    assert (fresh.workload, fresh.params, fresh.device) == (
        suspect.job.workload,
        suspect.job.params,
        suspect.job.device,
    )
    assert sent == [fresh.host]
    assert fresh.requested_by == f"the verdict on job {suspect.job_id}"


def test_a_host_that_is_silent_or_busy_is_waited_for(suspect):
    Host.objects.update(heard_at=NOW - timedelta(hours=1))
    follow(NOW + timedelta(minutes=1))
    assert not FreshRun.objects.exists()

    keep_alive(2)
    busy = finished(suspect.job.host, minutes=2)
    ReferenceJob.objects.filter(pk=busy.pk).update(state=JobState.RUNNING)
    follow(NOW + timedelta(minutes=2))
    assert not FreshRun.objects.exists()


def test_five_slow_fresh_runs_make_the_verdict_slow(suspect):
    verdict = run_all(suspect, [1.2 * each for each in SPREAD[:5]])

    assert (verdict.outcome, verdict.is_open) == (Outcome.SLOW, False)
    assert verdict.confirmation["own/step_seconds_median"]["slowdown"] == pytest.approx(0.2, abs=0.01)
    assert re.search(r"5 fresh runs: median step (19\.|20\.)\d% slower than its own history \(n 10", verdict.reason)
    assert verdict.cause["words"]


def test_five_fresh_runs_like_before_refute_it(suspect):
    verdict = run_all(suspect, SPREAD[:5])

    assert (verdict.outcome, verdict.is_open) == (Outcome.PASS, False)


def test_neither_the_suspect_nor_the_fresh_runs_stand_in_the_baseline(suspect):
    verdict = run_all(suspect, [1.2] * 5)

    assert verdict.confirmation["own/step_seconds_median"]["n_baseline"] == 10


def test_contaminated_fresh_runs_are_replaced(suspect):
    keep_alive(1)
    follow(NOW + timedelta(minutes=1))
    end(FreshRun.objects.get().job, 7.0, 1, foreign_cores=6.0)

    verdict = run_all(suspect, SPREAD[:5])

    assert verdict.fresh_runs.count() == 6
    assert verdict.outcome == Outcome.PASS


def test_a_verdict_on_contaminated_runs_is_refused_and_they_are_named(suspect):
    verdict = run_all(suspect, [1.2] * MOST_RUNS, foreign_cores=6.0)

    assert verdict.outcome == Outcome.CONTAMINATED
    assert f"0 of {MOST_RUNS} fresh runs were fit" in verdict.reason
    assert "of its cores busy" in verdict.reason


def test_it_gives_up_after_a_day(suspect):
    follow(NOW + PATIENCE + timedelta(minutes=1))

    suspect.refresh_from_db()
    assert (suspect.is_open, suspect.outcome) == (False, Outcome.SUSPECT)
    assert "no verdict: 0 of 0" in suspect.reason


def test_one_that_it_waited_for_in_vain_is_named_with_what_held_it(suspect):
    Host.objects.update(heard_at=None)

    follow(NOW + PATIENCE + timedelta(minutes=1))

    suspect.refresh_from_db()
    assert suspect.reason.endswith("5 are needed; the next one waited in vain, at last because a is silent")


def test_a_pass_and_an_advisory_suspicion_start_nothing_by_themselves():
    assert not open_suspicion(judged(with_history(board("a")), 1.0), NOW)
    assert not open_suspicion(judged(with_history(board("b"), 6), 1.4), NOW)


def test_a_second_suspicion_of_the_same_device_joins_the_first(suspect):
    again = judged(suspect.job.host, 1.25, 1)

    assert again.outcome == Outcome.SUSPECT
    assert not open_suspicion(again, NOW)


def test_a_device_that_was_found_slow_is_not_proved_slow_again_each_day(suspect):
    run_all(suspect, [1.2] * 5)
    host = suspect.job.host

    assert not open_suspicion(judged(host, 1.2, 60), NOW + timedelta(hours=1))
    assert open_suspicion(judged(host, 1.2, 60 * 24 * 8), NOW + timedelta(days=8))


def test_a_person_may_ask_for_fresh_runs_of_a_result_that_passed():
    verdict = judged(with_history(board("a")), 1.0)

    ask(verdict, NOW, Actor("ada"))

    assert run_all(verdict, [1.1 * each for each in SPREAD[:5]]).outcome == Outcome.SLOW
    assert AuditEntry.objects.filter(actor="ada", action="reference.confirm").exists()
    with pytest.raises(NotConfirmable, match="followed up already"):
        ask(verdict, NOW, Actor("ada"))


def test_a_failed_job_cannot_be_confirmed():
    verdict = judged(board("a"))
    verdict.key = ""

    with pytest.raises(NotConfirmable, match="no result"):
        ask(verdict, NOW, Actor("ada"))


def test_fresh_runs_of_an_open_suspicion_are_no_measure_although_none_alarms_by_itself(suspect):
    with_history(board("c"))
    for minute in (1, 2):
        keep_alive(minute)
        follow(NOW + timedelta(minutes=minute))
        end(FreshRun.objects.order_by("-pk").first().job, 1.09, minute)

    newest = Verdict.objects.get(job=FreshRun.objects.last().job)
    _, others = Earlier(judged(board("b"), 1.0, 10)).both("step_seconds_median")
    own, _ = Earlier(newest).both("step_seconds_median")

    assert newest.outcome == Outcome.PASS
    assert others.n_devices == 2
    assert max(*own.values, *others.values) < 1.05


@pytest.mark.parametrize("hindrance", ["silent", "busy", ""])
def test_an_open_suspicion_says_what_its_next_run_waits_for(suspect, hindrance):
    Host.objects.update(heard_at=None if hindrance == "silent" else NOW)
    words = {"silent": "a is silent", "": ""}
    if hindrance == "busy":
        words["busy"] = f"a has job {existing_job(suspect.job.host, JobState.RUNNING).pk}, gpt-train"
    suspect = Verdict.objects.get(pk=suspect.pk)

    assert waits_for(suspect, NOW) == words[hindrance]


def test_while_a_fresh_run_is_under_way_nothing_is_waited_for(suspect):
    keep_alive(1)
    follow(NOW + timedelta(minutes=1))

    assert waits_for(Verdict.objects.get(pk=suspect.pk), NOW) == ""
