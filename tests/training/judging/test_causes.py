"""Why a device was slow: what telemetry saw in the window of its run, beside that of a sound one."""

import pytest

from tests.factories import make_chunks
from tests.training.judging.judged import NOW, board, judged
from training.judging import causes
from training.models import Verdict

pytestmark = pytest.mark.django_db
NOW_MS = int(NOW.timestamp() * 1000)
SOUND, SLOW = (NOW_MS - 300_000, NOW_MS - 290_000), (NOW_MS - 60_000, NOW_MS - 40_000)


def slow_beside_sound(**readings: tuple[object, object]) -> Verdict:
    """Judge a sound run of ten seconds and a slow one of twenty; `readings` are by seconds since ten before each."""
    host = board("a")
    for number, (start, end) in enumerate((SOUND, SLOW)):
        times = range(start - 10_000, end, 1000)
        columns = {name: [[read[number](tick) for tick in range(len(times))]] for name, read in readings.items()}
        make_chunks(host, [host.devices.get()], list(times), columns, sequence=number * 100)
    judged(host, 1.0, -5, result={"window_start_ms": SOUND[0], "window_end_ms": SOUND[1]})
    return judged(host, 2.0, 0, result={"window_start_ms": SLOW[0], "window_end_ms": SLOW[1]})


def test_a_clock_that_fell_is_named_beside_that_of_the_sound_run():
    verdict = slow_beside_sound(sm_clock_hertz=(lambda tick: 1.98e9, lambda tick: 1.41e9))

    found = causes.of_runs(verdict, [verdict.job])

    assert found["words"] == "its clock fell"
    assert found["found"][0]["evidence"].replace("\N{NARROW NO-BREAK SPACE}", " ") == (
        "SM clock 1,410 MHz, in a sound run 1,980 MHz"
    )
    assert found["beside"].endswith("on a")


def test_a_counter_that_grows_as_it_always_does_is_no_cause_of_a_longer_run():
    verdict = slow_beside_sound(pcie_replay_total=(lambda tick: 5.0 * tick, lambda tick: 2000 + 5.0 * tick))

    assert causes.of_runs(verdict, [verdict.job])["found"] == []


def test_a_counter_that_grows_faster_is():
    verdict = slow_beside_sound(pcie_replay_total=(lambda tick: 5.0 * tick, lambda tick: 2000 + 15.0 * tick))

    (found,) = causes.of_runs(verdict, [verdict.job])["found"]

    assert found["words"] == "PCIe replays"
    assert "more than in a sound run" in found["evidence"]
