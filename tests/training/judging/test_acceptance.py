"""A person accepts the present speed of a device: what is compared from then on."""

from datetime import timedelta

import pytest

from fleet.access.audit import Actor
from fleet.models import AuditEntry
from tests.training.judging.judged import NOW, board, judged, with_history
from training.hooks import health_rules
from training.judging.acceptance import NotAcceptable, accept
from training.judging.baseline import Earlier
from training.judging.suspicion import open_suspicion
from training.models import AcceptedBaseline, FreshRun, Outcome, Verdict

pytestmark = pytest.mark.django_db
ADA = Actor("ada")


def accepted(verdict, *, is_for_all: bool = False) -> AcceptedBaseline:
    return accept(verdict, "driver 590", is_for_all=is_for_all, actor=ADA, now=NOW)


def slow(verdict, *fresh) -> Verdict:
    """Have the verdict be slow by these fresh runs."""
    Verdict.objects.filter(pk=verdict.pk).update(outcome=Outcome.SLOW, settled_at=verdict.ended_at)
    for run in fresh:
        FreshRun.objects.create(verdict=verdict, job=run.job)
    verdict.refresh_from_db()
    return verdict


def test_only_results_since_are_compared_with_and_the_old_ones_stay():
    host = with_history(board("a"))
    accepted(judged(host, 1.2, 0))
    for minute in range(1, 5):
        judged(host, 1.2, minute)

    verdict = judged(host, 1.21, 10)

    assert (verdict.outcome, verdict.screens[0]["n"]) == (Outcome.PASS, 5)
    assert Verdict.objects.count() == 16


def test_without_a_word_of_a_person_the_same_speed_is_suspect():
    host = with_history(board("a"))
    for minute in range(5):
        judged(host, 1.2, minute)

    assert judged(host, 1.21, 10).outcome == Outcome.SUSPECT


def test_a_slow_result_that_is_accepted_is_the_new_measure_with_its_fresh_runs():
    host = with_history(board("a"))
    verdict = judged(host, 1.2, 0)
    accepted(slow(verdict, *(judged(host, 1.2, minute) for minute in range(1, 6))))

    assert judged(host, 1.2, 10).screens[0]["n"] == 6


def test_other_devices_are_not_measured_by_what_was_before():
    for name in "bc":
        accepted(judged(with_history(board(name)), 1.2, 0))

    _, found = Earlier(judged(board("a"), 1.2, 10)).both("step_seconds_median")

    assert found.values == (1.2, 1.2)


def test_what_others_measured_before_is_no_measure_for_the_device_either():
    for name in "bc":
        with_history(board(name))
    host = board("a")
    accepted(judged(host, 1.2, 0))

    assert judged(host, 1.2, 10).outcome == Outcome.NO_BASELINE


def test_it_is_for_one_kind_of_run_or_for_all_of_the_device():
    host = with_history(board("a"))
    other = judged(host, 1.0, -1, params={"compile": "on"})

    accepted(other)
    assert judged(host, 1.0, 10).screens[0]["n"] == 10
    accepted(judged(host, 1.0, 11, params={"compile": "on"}), is_for_all=True)
    assert judged(host, 1.0, 12).outcome == Outcome.NO_BASELINE


def test_the_alert_below_baseline_ends_with_it():
    def n_signs() -> int:
        rule = health_rules.VerdictSurvey(
            {"days": 30}, NOW + timedelta(days=1), health_rules._conclusive, health_rules._of_speed
        )
        return len(list(rule.signs()))

    verdict = slow(judged(with_history(board("a")), 1.2, 0))
    assert n_signs() == 1

    accepted(verdict)

    assert n_signs() == 0


def test_a_speed_below_the_accepted_one_is_followed_up_at_once():
    host = with_history(board("a"))
    accepted(slow(judged(host, 1.2, 0)))
    for minute in range(1, 11):
        judged(host, 1.2, minute)

    assert open_suspicion(judged(host, 1.5, 20), NOW + timedelta(minutes=20))


def test_it_stands_in_the_audit_log_with_its_reason():
    verdict = judged(board("a"))
    accepted(verdict)

    entry = AuditEntry.objects.get(action="reference.accept_baseline")
    assert (entry.actor, entry.subject) == ("ada", "a")
    assert entry.detail["reason"] == "driver 590"


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({}, "  ", "say why"),
        ({}, "x" * 501, "at most 500"),
        ({"key": ""}, "repair", "no result"),
        ({"device_key": None}, "repair", "no longer known"),
        ({"is_clean": False, "markers": ["a busy core"]}, "repair", "a busy core"),
        ({"is_open": True}, "repair", "not all in"),
    ],
)
def test_what_cannot_be_a_measure_is_refused(fields, reason, words):
    verdict = judged(board("a"))
    for name, value in fields.items():
        setattr(verdict, name, value)

    with pytest.raises(NotAcceptable, match=words):
        accept(verdict, reason, is_for_all=False, actor=ADA, now=NOW)
    assert not AcceptedBaseline.objects.exists()


def test_a_result_is_accepted_once():
    verdict = judged(board("a"))
    accepted(verdict)

    with pytest.raises(NotAcceptable, match="already"):
        accepted(verdict)
