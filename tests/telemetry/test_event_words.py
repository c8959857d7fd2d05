"""What proves an alert, in words: each value with its unit, flags and codes by what they say."""

from datetime import UTC, datetime

import pytest

from fleet.models import Event, Host
from telemetry.health import rules
from telemetry.health.peer_rules import PeerSurvey
from telemetry.health.seen import DeviceSeen, HostSeen
from telemetry.views.code_words import code_words
from telemetry.views.event_words import evidence

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def proof(rule, values):
    """Return the words of the values that prove an alert."""
    event = Event(rule=rule, resolved_at=NOW, detail={"values": values, "read_ms": 1_795_435_200_000})
    (_, words), *_ = evidence(event)
    return words.replace("\N{NARROW NO-BREAK SPACE}", " ")


def below_peers(slow):
    """Return the values that prove that the first of eight devices at work, which gives these, lies below its peers."""
    host = HostSeen("host:a", Host(pk=1, name="a"), NOW, 0, is_silent=False)
    survey = PeerSurvey({name: each.value for name, each in rules.by_name()["below_peers"].thresholds.items()}, NOW)
    for n in range(8):
        values = {"gpu_utilization_ratio": 0.97, "sm_clock_hertz": 1.935e9} | (slow if n == 0 else {})
        host.devices.append(
            DeviceSeen(
                f"device:{n}", n, f"{n}", "nvidia", n, "H100", host, 0, values, frozenset(), True, True, (), None
            )
        )
    survey.see(host)
    return next(sign.values for subject, sign in survey.signs() if subject.name == "device:0")


@pytest.mark.parametrize(
    ("slow", "words"),
    [
        ({"sm_clock_hertz": 1.695e9}, "SM clock 1,695 MHz · median of peers 1,935 MHz"),
        ({"gpu_utilization_ratio": 0.5}, "Utilisation 50 % · median of peers 97 %"),
    ],
)
def test_the_median_of_the_peers_is_told_in_the_unit_of_what_lies_below_it(slow, words):
    assert proof("below_peers", below_peers(slow)).startswith(words)


def test_a_name_does_not_say_the_unit_that_stands_behind_its_number():
    assert proof("disk_full", {"used_ratio": 0.91, "free_bytes": 2.0**31}) == "used 91 % · free 2 GiB"


def test_a_flag_is_yes_or_no():
    values = {"row_remap_failure": 1.0, "row_remap_pending": 0.0}

    assert proof("row_remap_failed", values) == "Row remap failed yes · Row remap pending no"


def test_a_time_of_nothing_is_told_in_seconds():
    assert proof("thermal_throttling", {"thermal_throttle_seconds_total": 0.0}).endswith(" 0 s")


@pytest.mark.parametrize(
    ("code", "words"), [(0, "free"), (1, "a process"), (2, "a Slurm job"), (3, "a Kubernetes pod"), (9, "code 9")]
)
def test_who_has_a_device_is_told_in_words(code, words):
    assert code_words("allocation", code) == words


def test_a_quantity_has_no_words():
    assert code_words("power_draw_watts", 651.0) == ""
