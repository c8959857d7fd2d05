"""Rules of a host, its agent, the fleet's power and the server's disk: raised and cleared by simulated batches."""

from typing import NamedTuple

import pytest

from fleet.models import Event, Host, Origin
from telemetry.health import disk_rules, look, thresholds
from telemetry.health.watch import watch
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.load import IDLE
from tests.telemetry.batches import enrolled, payload, take
from tests.telemetry.watched import WatchedHost, firing, rules_firing

pytestmark = pytest.mark.django_db


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def host() -> WatchedHost:
    """A host at work, well watched, with nothing wrong."""
    host = WatchedHost()
    host.run(60)
    return host


def test_a_silent_host_is_told_and_ends_when_it_has_spoken_for_a_while(host):
    host.suffer(FaultKind.SILENT, seconds=90)
    host.run(50)

    alert = firing()["host_silent", "host:sim-0001"]
    assert (alert.text, alert.severity, alert.device) == ("no sample since 2026-11-23 12:01:00 UTC", "critical", None)
    host.run(60)
    assert "host_silent" in rules_firing()
    host.run(40)
    assert not firing()


def test_a_silent_host_does_not_end_the_alerts_of_its_devices(host):
    host.suffer(FaultKind.LOST, seconds=60)
    host.run(20)
    host.suffer(FaultKind.SILENT, seconds=600)
    host.run(600)

    assert {"device_lost", "host_silent"} <= rules_firing()


def test_nobody_is_silent_because_the_server_was_away(host):
    host.now += 3600
    watch(host.moment)

    assert not firing()
    host.run(100)
    assert not firing()


def test_a_host_that_stays_away_after_the_server_came_back_is_silent(host):
    host.suffer(FaultKind.SILENT, seconds=7200)
    host.now += 3600
    host.run(60)

    assert rules_firing() == {"host_silent"}


def test_where_all_hosts_are_silent_the_server_is_told_of_and_not_each_host():
    hosts = [WatchedHost(f"sim-{number}", n_gpus=1) for number in range(3)]
    run_together(hosts, 60)
    for host in hosts:
        host.suffer(FaultKind.SILENT, seconds=100)
    run_together(hosts, 80)

    assert set(firing()) == {("nothing_heard", "server")}
    run_together(hosts, 60)
    assert not firing()


def run_together(hosts, seconds):
    for _ in range(seconds // 10):
        for host in hosts:
            host.run(10)


def test_a_host_that_was_only_added_is_not_silent(host):
    Host.objects.create(name="new")
    host.run(60)

    assert not firing()


def test_a_host_whose_first_batch_comes_in_the_middle_of_a_pass_is_not_silent(host, monkeypatch):
    enrolled("new")
    read_hosts = look.known

    def then_a_batch_comes(now, xid_seconds):
        found = read_hosts(now, xid_seconds)
        take(payload([int(host.now * 1000)], {"power_draw_watts": [300]}, host="new"), host.moment)
        return found

    monkeypatch.setattr(look, "known", then_a_batch_comes)
    watch(host.moment)

    assert Host.objects.get(name="new").has_reported
    assert not firing()


def test_imported_hosts_are_not_judged(host):
    host.suffer(FaultKind.LOST, seconds=600)
    Host.objects.filter(pk=host.row.pk).update(origin=Origin.IMPORTED)
    host.run(60)

    assert not firing()


def test_batches_that_the_agent_gave_up_are_told_for_an_hour(host):
    host.suffer(FaultKind.FULL)
    host.run(20)

    alert = firing()["agent_dropping", "host:sim-0001"]
    assert alert.text == "its agent gave up 12 batches in the last hour"
    host.now += 3600
    host.run(80)
    assert not firing()


def test_a_spool_that_cannot_be_written_is_told_until_it_can(host):
    host.suffer(FaultKind.FULL, seconds=60)
    host.run(50)

    assert "cannot write its spool" in firing()["spool_failed", "host:sim-0001"].text
    host.run(100)
    assert rules_firing() == {"agent_dropping"}


def test_a_clock_that_runs_ahead_is_told_until_it_is_set_right(host):
    host.suffer(FaultKind.SKEWED, seconds=100)
    host.run(90)

    alert = firing()["clock_skewed", "host:sim-0001"]
    assert "ahead of the server's" in alert.text
    assert alert.detail["values"] == {"host_clock_offset_seconds": -12.5, "host_clock_error_seconds": 0.004}
    host.run(100)
    assert not firing()


def test_batches_that_were_given_up_before_the_watch_began_are_not_told():
    host = WatchedHost()
    host.machine.n_dropped = 40
    host.run(60)

    assert not firing()


def test_samples_that_come_late_are_told_until_they_come_in_time(host):
    host.delay_seconds = 100
    host.run(100)
    host.run(100)

    alert = firing()["agent_lagging", "host:sim-0001"]
    assert alert.detail["values"]["sample_age_seconds"] == 100
    host.delay_seconds = 0
    host.run(100)
    assert not firing()


def test_a_budget_of_power_that_nobody_set_is_no_rule(host):
    host.run(60)

    assert "power_budget" not in thresholds.in_force()
    assert not firing()


@pytest.mark.parametrize(("name", "subject"), [("watts", "fleet"), ("watts:atlas", "cluster:atlas")])
def test_a_budget_of_power_is_told_when_it_is_reached_and_ends_when_less_is_drawn(name, subject):
    host = WatchedHost(cluster="atlas")
    host.run(20)
    thresholds.set_value("power_budget", name, 2000)
    thresholds.set_value("power_budget", "for_seconds", 20)
    host.run(40)

    alert = firing()["power_budget", subject]
    assert alert.detail["values"]["power_draw_watts"] > alert.detail["values"]["budget_watts"] == 2000
    host.task.load = IDLE
    host.run(120)
    assert not firing()


def test_a_budget_that_is_raised_above_what_is_drawn_ends_its_alert():
    host = WatchedHost()
    host.run(20)
    thresholds.set_value("power_budget", "watts", 2000)
    thresholds.set_value("power_budget", "for_seconds", 0)
    host.run(20)
    assert rules_firing() == {"power_budget"}
    thresholds.set_value("power_budget", "watts", 9000)
    host.run(80)

    assert not firing()


def test_power_that_is_not_known_does_not_end_the_alert_of_the_budget():
    host = WatchedHost()
    thresholds.set_value("power_budget", "watts", 2000)
    thresholds.set_value("power_budget", "for_seconds", 0)
    host.run(20)
    host.suffer(FaultKind.SILENT, seconds=600)
    host.run(300)

    assert {"power_budget", "host_silent"} == rules_firing()


@pytest.mark.parametrize(("used", "severity"), [(91, "warning"), (98, "critical")])
def test_a_disk_nearly_full_is_told_and_is_clear_below_another_point(host, monkeypatch, used, severity):
    def fill(used):
        monkeypatch.setattr(disk_rules.shutil, "disk_usage", lambda path: Usage(100, used, 100 - used))

    fill(used)
    host.run(10)
    assert firing()["disk_full", "server"].severity == severity
    fill(88)
    host.run(120)
    assert rules_firing() == {"disk_full"}
    fill(80)
    host.run(80)
    assert not firing()


def test_the_alerts_of_a_removed_host_go_with_it(host):
    host.suffer(FaultKind.LOST, seconds=600)
    host.run(20)
    Host.objects.all().delete()
    watch(host.moment)

    assert not Event.objects.filter(rule="device_lost").exists()
