"""The alerts that verdicts raise, through the watch of telemetry's health."""

from datetime import timedelta

import pytest

from fleet.models import Event, Host
from telemetry.health.watch import watch
from telemetry.models import LatestState
from tests.training.judging.judged import NOW, board, judged
from training.models import LossAgreement, Outcome, Verdict

pytestmark = pytest.mark.django_db


def open_alerts() -> dict[str, Event]:
    return {event.rule: event for event in Event.objects.filter(resolved_at=None).exclude(rule="")}


def told(verdict: Verdict, **fields: object) -> Verdict:
    Verdict.objects.filter(pk=verdict.pk).update(**fields)
    return verdict


def report(host: Host, minute: float = 0) -> None:
    """Have the host's newest readings stand in the store: of a host that says nothing no alert ends."""
    at = NOW + timedelta(minutes=minute)
    at_ms = int(at.timestamp() * 1000)
    newest = {
        each.uuid: {"at_ms": at_ms, "values": {"power_draw_watts": 90.0}, "absent": {}} for each in host.devices.all()
    }
    LatestState.objects.update_or_create(host=host, defaults={"at_ms": at_ms, "devices": newest})
    Host.objects.filter(pk=host.pk).update(heard_at=at)


def test_a_slow_verdict_is_an_alert_of_its_device_with_the_likely_cause():
    test = {"own/step_seconds_median": {"slowdown": 0.12, "is_slow": True}}
    slow = {
        "outcome": Outcome.SLOW,
        "reason": "5 fresh runs",
        "confirmation": test,
        "cause": {"words": "its clock fell"},
    }
    verdict = told(judged(board("a")), **slow)

    watch(NOW + timedelta(minutes=1))

    event = open_alerts()["below_baseline"]
    assert event.device == verdict.job.device
    assert (event.detail["values"]["slowdown_ratio"], event.detail["values"]["likely_cause"]) == (
        0.12,
        "its clock fell",
    )


def test_a_later_pass_ends_it():
    host = board("a")
    told(judged(host, minutes=-60), outcome=Outcome.SLOW)
    report(host)
    watch(NOW)
    assert "below_baseline" in open_alerts()

    told(judged(host), outcome=Outcome.PASS)
    for minute in (1, 3):
        report(host, minute)
        watch(NOW + timedelta(minutes=minute))

    assert "below_baseline" not in open_alerts()


def test_differing_losses_are_a_critical_alert():
    verdict = told(judged(board("a")), agreement=LossAgreement.DIFFERS, agreement_reason="its loss differs")

    watch(NOW + timedelta(minutes=1))

    event = open_alerts()["silent_corruption"]
    assert (event.severity, event.device) == ("critical", verdict.job.device)
    assert "its loss differs" in event.text


def test_suspects_and_passes_raise_nothing():
    told(judged(board("a")), outcome=Outcome.SUSPECT)
    told(judged(board("b")), outcome=Outcome.PASS, agreement=LossAgreement.SAME)

    watch(NOW + timedelta(minutes=1))

    assert not open_alerts().keys() & {"below_baseline", "silent_corruption"}
