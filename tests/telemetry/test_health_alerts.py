"""Alerts: one open for a rule and subject whatever comes, refreshed, acknowledged, resolved; and who is to be told."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from fleet.access.audit import Actor
from fleet.models import AuditEntry, Event, EventKind
from telemetry.health import alerts, rules, thresholds
from telemetry.health.alerts import Found
from telemetry.health.rule import Standing, raised
from telemetry.health.seen import Subject
from telemetry.health.standing import Change, step
from telemetry.health.watch import watch
from telemetry.models import HealthMemory, LatestState
from tests.factories import GPU_READINGS, make_device, make_host, make_latest

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SOMEBODY = Actor("ada", "127.0.0.1")
ALL_WELL, HOT = GPU_READINGS, GPU_READINGS | {"memory_temperature_celsius": 99.0}
READINGS = {
    "well": (GPU_READINGS | {"memory_temperature_celsius": 60.0}, {}),
    "between": (GPU_READINGS | {"memory_temperature_celsius": 92.0}, {}),
    "hot": (HOT, {}),
    "unknown": (ALL_WELL, {}),
    "lost": ({}, {"power_draw_watts": "gpu_is_lost"}),
}

pytestmark = pytest.mark.django_db


def found(host=None, severity=None, rule="hot_memory", since=NOW):
    subject = Subject(f"host:{host.name}", host.pk) if host else Subject("fleet")
    sign = raised("memory at 99 °C", {"memory_temperature_celsius": 99.0}, severity=severity)
    limits = {"watts": 100.0} if rule == "power_budget" else {"celsius": 95.0}
    return Found(rules.by_name()[rule], subject, sign, limits, int(since.timestamp() * 1000))


def read(row: LatestState, kind: str, now: datetime) -> None:
    """Let the host's GPUs read this now."""
    row.at_ms = int(now.timestamp() * 1000)
    values, absent = READINGS[kind]
    for device in row.devices.values():
        device |= {"at_ms": row.at_ms, "values": values, "absent": absent}
    row.save()
    type(row.host).objects.filter(pk=row.host_id).update(heard_at=now, last_seen_at=now)


def gpu_host(name="gpu-a01"):
    host = make_host(name, seen_at=NOW)
    return make_latest(host, {make_device(host): ALL_WELL})


def test_an_alert_has_its_evidence_its_limits_its_action_and_its_times():
    event = alerts.open_alert(found(since=NOW - timedelta(minutes=2)), NOW)

    assert (event.kind, event.rule, event.subject, event.first_at) == (
        EventKind.HEALTH, "hot_memory", "fleet", NOW - timedelta(minutes=2),
    )  # fmt: skip
    assert event.detail["values"] == {"memory_temperature_celsius": 99.0}
    assert event.detail["thresholds"] == {"celsius": 95.0}
    assert event.detail["action"] == rules.by_name()["hot_memory"].advice
    assert event.detail["read_ms"] - event.detail["since_ms"] == 120_000


def test_a_second_open_alert_of_a_rule_and_subject_is_not_made():
    assert alerts.open_alert(found(), NOW)
    assert alerts.open_alert(found(), NOW) is None

    assert Event.objects.count() == 1


def test_the_database_itself_holds_that_one_alert_is_open():
    alerts.open_alert(found(), NOW)
    fields = {"kind": "health", "severity": "info", "rule": "hot_memory", "subject": "fleet", "text": "x"}

    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.create(first_at=NOW, last_at=NOW, **fields)


def test_an_alert_is_resolved_once():
    event = alerts.open_alert(found(), NOW)

    assert alerts.resolve_alert(event, NOW)
    assert not alerts.resolve_alert(event, NOW)
    assert alerts.state_of(Event.objects.get()) is alerts.State.RESOLVED


def test_a_resolved_alert_may_come_again():
    alerts.resolve_alert(alerts.open_alert(found(), NOW), NOW)

    assert alerts.open_alert(found(), NOW)


def test_an_alert_that_goes_on_is_refreshed_once_a_minute():
    event = alerts.open_alert(found(), NOW)
    for seconds in (30, 60):
        later = NOW + timedelta(seconds=seconds)
        alerts.refresh([(Event.objects.get(), found(since=later))], later)
        assert (Event.objects.get().last_at == later) is (seconds == 60)

    assert Event.objects.get().detail["since_ms"] == event.detail["since_ms"]


def test_a_refresh_keeps_what_people_wrote():
    event = alerts.open_alert(found(), NOW)
    alerts.acknowledge(event.pk, SOMEBODY, NOW, "looking")
    alerts.refresh([(event, found())], NOW + timedelta(hours=1))

    assert Event.objects.get().detail["comment"] == "looking"


def test_an_acknowledgement_is_noted_and_audited():
    event = alerts.open_alert(found(), NOW)
    alerts.acknowledge(event.pk, SOMEBODY, NOW, "looking")

    event = Event.objects.get()
    assert (event.acknowledged_by, event.acknowledged_at) == ("ada", NOW)
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.detail["comment"]) == ("event.acknowledge", "fleet", "looking")


def test_what_is_acknowledged_or_over_cannot_be_acknowledged():
    event = alerts.open_alert(found(), NOW)
    alerts.acknowledge(event.pk, SOMEBODY, NOW)
    with pytest.raises(alerts.NotAcknowledged, match="ada has acknowledged"):
        alerts.acknowledge(event.pk, SOMEBODY, NOW)
    alerts.resolve_alert(event, NOW)
    with pytest.raises(alerts.NotAcknowledged, match="resolved"):
        alerts.acknowledge(event.pk, SOMEBODY, NOW)

    assert AuditEntry.objects.count() == 1


def test_what_is_under_way_survives_a_restart():
    row = gpu_host()
    for seconds in range(0, 61, 10):
        read(row, "hot", NOW + timedelta(seconds=seconds))
        watch(NOW + timedelta(seconds=seconds))  # each pass knows nothing but what the database keeps

    assert Event.objects.get().first_at == NOW


def test_a_rule_that_is_switched_off_ends_its_alerts():
    thresholds.set_value("power_budget", "watts", 100)
    alerts.open_alert(found(rule="power_budget"), NOW)
    thresholds.reset("power_budget", "watts")
    watch(NOW)

    assert Event.objects.get().detail["resolved"] == "its rule is off"


def test_a_pass_over_a_fleet_that_is_well_writes_one_row(django_assert_max_num_queries):
    row = gpu_host()
    for seconds in (0, 10):
        read(row, "well", NOW + timedelta(seconds=seconds))
        watch(NOW + timedelta(seconds=seconds))
    with django_assert_max_num_queries(11):  # three of them are training's: verdicts by rule, and the runs that run
        watch(NOW + timedelta(seconds=20))

    assert list(HealthMemory.objects.values_list("scope", flat=True)) == ["fleet"]


class AnySequence(TestCase):
    """Whatever is read: one open alert a rule and subject at most, and no change before its time."""

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from([*READINGS, "silent"]), st.integers(1, 25)), min_size=1, max_size=6))
    def test_there_is_never_more_than_one_open_alert_nor_one_before_its_time(self, stretches):
        kinds = [kind for kind, times in stretches for _ in range(times)]
        row, changed_at, was_open, last = gpu_host(), NOW, False, (NOW, "unknown")
        for number, kind in enumerate(kinds):
            now = NOW + timedelta(seconds=10 * number)
            if kind != "silent":
                read(row, kind, now)
                last = now, kind
            is_silent = now - last[0] > timedelta(seconds=30)  # until then its last reading is its newest state
            watch(now)
            open_now = list(Event.objects.filter(rule="hot_memory", resolved_at=None))
            assert len(open_now) <= 1
            if bool(open_now) != was_open:
                wait = 180 if was_open else 60
                assert not is_silent
                assert last[1] == ("well" if was_open else "hot")
                assert now - changed_at >= timedelta(seconds=wait)
                was_open, changed_at = bool(open_now), now


@given(
    st.lists(st.tuples(st.sampled_from(Standing), st.integers(1, 40)), max_size=60),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_an_alert_changes_only_after_it_stood_without_a_break(stands, raise_ms, clear_ms):
    since, is_open, now, stood_from, before = None, False, 0, 0, None
    for standing, passed in stands:
        now += passed
        stood_from = stood_from if standing is before else now
        wait = clear_ms if is_open else raise_ms
        since, change = step(standing, since, now, wait, is_open=is_open)
        is_due = standing is (Standing.CLEAR if is_open else Standing.RAISED) and now - stood_from >= wait
        assert (change is not Change.NONE) is is_due
        if change is not Change.NONE:
            is_open, since, stood_from = not is_open, None, now
        before = standing
