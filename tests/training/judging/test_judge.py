"""The verdict of a job that has ended, before any fresh run."""

from datetime import timedelta

import pytest

from tests.training.judging.judged import NOW, board, finished, judged, result, with_history
from tests.training.reference_jobs import existing_job
from training.judging.judge import judge, waiting
from training.models import JobState, Outcome, ReferenceJob, Schedule, ScheduledVisit, Verdict

pytestmark = pytest.mark.django_db


def test_the_first_run_has_no_baseline():
    verdict = judged(board("a"))

    assert verdict.outcome == Outcome.NO_BASELINE
    assert "0 earlier clean runs" in verdict.reason


def test_a_run_like_its_own_history_passes():
    verdict = judged(with_history(board("a")), 1.01)

    (own, population) = verdict.screens
    assert (verdict.outcome, own["n"], own["standing"]) == (Outcome.PASS, 10, "full")
    assert own["deviation"] == pytest.approx(1 / 1.01 - 1, abs=1e-3)
    assert (population["n"], population["standing"]) == (0, "no baseline")


def test_with_five_runs_the_answer_is_advisory():
    verdict = judged(with_history(board("a"), 5), 1.0)

    assert verdict.outcome == Outcome.PASS
    assert "advisory" in verdict.reason


def test_a_run_slower_than_its_own_history_is_suspect():
    verdict = judged(with_history(board("a")), 1.2)

    assert verdict.outcome == Outcome.SUSPECT
    assert "its own history" in verdict.reason
    assert "n 10" in verdict.reason


def test_a_device_that_was_always_slow_is_found_by_its_population():
    slow = with_history(board("slow"), level=1.2)
    for name in "bcdef":
        with_history(board(name))

    verdict = judged(slow, 1.2)

    own, population = verdict.screens
    assert own["z"] < 1
    assert population["n_devices"] == 5
    assert verdict.outcome == Outcome.SUSPECT
    assert "the other devices of its model" in verdict.reason


def test_a_single_other_device_is_no_population():
    with_history(board("b"))

    assert judged(board("a"), 2.0).outcome == Outcome.NO_BASELINE


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"versions": {"python": "3.12.1", "torch": "2.13.0"}}, "python"),
        ({"versions": {"python": "3.11.2", "torch": "2.14.0"}}, "torch"),
        ({"versions": {"python": "3.11.2", "torch": "2.13.0", "allocator": "glibc 2.36"}}, "allocator"),
        ({"device_name": "Another board"}, "device model"),
        ({"precision": "fp32"}, "precision"),
    ],
)
def test_what_differs_in_model_parameters_or_software_is_not_compared_and_the_reason_says_in_what(change, what):
    host = with_history(board("a"))
    newest = Verdict.objects.latest("ended_at")

    verdict = judged(host, 3.0, result=change)

    assert verdict.outcome == Outcome.NO_BASELINE
    assert verdict.reason.endswith(f"; job {newest.job_id}, the newest before, is no measure, as it had another {what}")


def test_results_of_before_that_name_no_allocator_are_compared_among_each_other_and_with_no_new_one():
    """On a CPU a job keeps its memory since, which is faster: neither is a measure for the other."""
    host, told = with_history(board("a")), {"python": "3.11.2", "torch": "2.13.0", "allocator": "glibc 2.36"}
    of_now = [judged(host, 0.9, minute, result={"versions": told}) for minute in range(6)]

    assert [verdict.outcome for verdict in of_now] == [Outcome.NO_BASELINE] * 5 + [Outcome.PASS]
    assert ["no measure" in verdict.reason for verdict in of_now] == [True] + [False] * 5
    assert judged(host, 1.0, 7).outcome == Outcome.PASS


def test_another_driver_is_compared_so_that_one_which_slows_is_found():
    host = with_history(board("a"))

    versions = {"python": "3.11.2", "torch": "2.13.0", "driver": "999.0"}
    assert judged(host, 1.3, result={"versions": versions}).outcome == Outcome.SUSPECT


def test_a_contaminated_run_gets_no_verdict_and_is_named():
    verdict = judged(with_history(board("a")), 9.0, result={"foreign_cores": 6.0})

    assert verdict.outcome == Outcome.CONTAMINATED
    assert "others kept 6.0 of its cores busy" in verdict.reason


def test_a_contaminated_run_is_left_out_of_every_baseline():
    host = board("a")
    for minute in range(10):
        judged(host, 5.0, minute - 100, result={"involuntary_context_switches": 50_000})

    assert judged(host, 1.0).outcome == Outcome.NO_BASELINE


def test_a_run_that_was_found_slow_is_no_baseline_for_later_ones():
    host = with_history(board("a"))
    slow = judged(host, 1.3, -1)
    Verdict.objects.filter(pk=slow.pk).update(outcome=Outcome.SLOW)

    assert judged(host, 1.0).screens[0]["n"] == 10


def test_the_newest_five_together_raise_a_suspicion_that_none_raises_alone():
    """A device as even as these shows 3 % only so: one run's alarm is at 10 %."""
    host = with_history(board("a"), 20)

    verdicts = [judged(host, 1.035 + minute / 1000, minute - 10) for minute in range(5)]

    verdict = verdicts[-1]
    assert verdicts[0].outcome == Outcome.PASS
    assert verdict.screens[0]["z"] < 3.5
    assert verdict.outcome == Outcome.SUSPECT
    assert "newest 5 runs" in verdict.reason


def test_a_whole_fleet_is_screened_with_the_higher_threshold():
    host = with_history(board("a"))
    job = finished(host, 1.13)
    for number in range(9):
        existing_job(board(f"x{number}"), JobState.DONE, launch=job.launch)

    verdict = judge(job, NOW)

    assert verdict.screens[0]["alarm_at"] == 5.0
    assert verdict.outcome == Outcome.PASS


def test_a_failed_job_has_the_verdict_failed_with_its_reason():
    job = existing_job(board("a"), JobState.FAILED, ended_at=NOW, reason="out of memory")

    assert (judge(job, NOW).outcome, judge(job, NOW).reason) == (Outcome.FAILED, "out of memory")


def test_judging_twice_is_judging_once():
    job = finished(board("a"))

    assert judge(job, NOW).pk == judge(job, NOW + timedelta(hours=1)).pk
    assert Verdict.objects.count() == 1


def test_a_result_waits_for_its_last_samples_before_it_is_judged():
    job = finished(board("a"))
    type(job).objects.filter(pk=job.pk).update(energy={})

    assert not waiting(NOW + timedelta(seconds=30)).exists()
    assert waiting(NOW + timedelta(minutes=3)).get() == job


def test_a_cancelled_job_is_not_judged():
    existing_job(board("a"), JobState.CANCELLED, ended_at=NOW)

    assert not waiting(NOW + timedelta(hours=1)).exists()


@pytest.mark.parametrize(("n_hosts", "alarm_at"), [(9, 3.5), (10, 5.0)])
def test_what_a_schedule_starts_at_one_moment_is_screened_as_a_fleet(n_hosts, alarm_at):
    host = with_history(board("a"))
    schedule = Schedule.objects.create(name="nightly", workload="gpt-train", created_by="ada")
    job = finished(host, 1.12)
    others = [board(f"h{number}") for number in range(n_hosts - 1)]
    due = {"schedule": schedule, "due_at": NOW, "why": "its time"}
    ScheduledVisit.objects.create(host=host, job=job, **due)
    for other in others:
        ScheduledVisit.objects.create(host=other, **due)

    verdict = judge(job, NOW)

    assert verdict.screens[0]["alarm_at"] == alarm_at
    assert (verdict.outcome == Outcome.PASS) == (alarm_at == 5.0)


def test_a_lost_job_that_reports_its_result_while_it_is_judged_is_not_failed():
    lost = existing_job(board("a"), JobState.LOST, ended_at=NOW)
    ReferenceJob.objects.filter(pk=lost.pk).update(
        state=JobState.DONE, report_sequence=9, result=result(1.0), energy={"reason": "none"}
    )

    judge(lost, NOW)

    assert not Verdict.objects.exists()
    (done,) = waiting(NOW)
    assert judge(done, NOW).outcome == Outcome.NO_BASELINE
