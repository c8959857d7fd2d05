"""One tick, without threads: what is read of each device, and what a backend's faults make of it."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.batching import BatchMaker
from telemetry.agent.collector import Collector
from telemetry.agent.lanes import UNAVAILABLE_SECONDS
from telemetry.agent.names import Names
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.wire import DeviceEvent, DeviceProcess, EventKind, Topology
from tests.telemetry.steered import POWER, Clock, PowerSource, SteeredBackend, SteeredSource

OFFSET = 1_000_000.0


class Host:
    """A collector on a clock of its own."""

    def __init__(self, *backends, period=1.0):
        self.clock = Clock()
        self.collector = Collector(backends, period, self.clock)
        self.number = 0

    def tick(self, *, after=1.0, is_full=True):
        self.clock.pass_by(after)
        self.number += 1
        return self.collector.sample(self.number, self.clock(), OFFSET, is_full=is_full)


def test_it_reads_every_device_of_every_backend():
    tick = Host(SteeredBackend("a"), SteeredBackend("b")).tick()

    assert tick.readings == {"GPU-a": POWER, "GPU-b": POWER}


def test_a_source_that_raises_says_unknown_and_the_others_go_on(caplog):
    broken = SteeredSource("GPU-1")
    host = Host(SteeredBackend("a", broken, SteeredSource("GPU-2")))
    host.tick()
    broken.answer = lambda: 1 / 0

    tick = host.tick()

    assert tick.readings == {"GPU-1": {"power_draw_watts": AbsentReason.UNKNOWN}, "GPU-2": POWER}
    assert "device GPU-1 cannot be read" in caplog.text


def test_a_fault_that_repeats_is_written_once(caplog):
    host = Host(SteeredBackend("a", SteeredSource("GPU-1", lambda: 1 / 0)))
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            host.tick()

    assert caplog.text.count("cannot be read") == 1


def test_a_backend_that_fails_is_opened_again():
    backend = SteeredBackend("a")
    host = Host(backend)
    host.tick()
    backend.listing = lambda: 1 / 0

    assert host.tick().readings == {"GPU-a": {"power_draw_watts": AbsentReason.DRIVER_AWAY}}
    backend.listing = lambda: None

    assert host.tick().readings == {"GPU-a": POWER}
    assert (backend.opened, backend.closed) == (2, 1)


def test_a_driver_that_comes_later_is_found():
    backend = SteeredBackend("a")
    backend.missing = True
    host = Host(backend)

    assert host.tick().readings == {}
    backend.missing = False

    assert host.tick(after=UNAVAILABLE_SECONDS - 1).readings == {}
    assert host.tick(after=2).readings == {"GPU-a": POWER}


def test_a_driver_that_was_there_is_looked_for_after_a_second_and_then_ever_more_rarely():
    backend, tries = SteeredBackend("a"), []
    host = Host(backend)
    host.tick()
    backend.missing, backend.opening = True, lambda: tries.append(host.number)
    backend.listing = lambda: 1 / 0

    ticks = [host.tick() for _ in range(34)]

    assert all(tick.readings == {"GPU-a": {"power_draw_watts": AbsentReason.DRIVER_AWAY}} for tick in ticks)
    assert tries == [3, 5, 9, 17, 33]


def test_a_mig_instance_that_is_gone_is_not_missed():
    backend = SteeredBackend("a", SteeredSource("GPU-1"), SteeredSource("MIG-1"))
    host = Host(backend)
    host.tick()
    backend.found.pop()

    assert host.tick().readings == {"GPU-1": POWER}


def test_a_reading_that_comes_too_late_for_its_tick_stands_nowhere():
    slow = SteeredSource("GPU-slow")
    host = Host(SteeredBackend("a", slow))
    host.tick()
    slow.answer = lambda: host.clock.pass_by(0.6) or POWER

    assert host.tick().readings["GPU-slow"] == {"power_draw_watts": AbsentReason.TIMEOUT}


def test_slow_devices_are_read_after_the_others():
    sources = [SteeredSource(f"GPU-slow{n}") for n in range(3)] + [SteeredSource("GPU-quick")]
    host = Host(SteeredBackend("a", *sources))
    for source in sources[:3]:
        source.answer = lambda: host.clock.pass_by(0.4) or POWER
    host.tick()

    ticks = [host.tick() for _ in range(4)]

    assert all(tick.readings["GPU-quick"] == POWER for tick in ticks)


def test_slow_devices_take_turns():
    sources = [SteeredSource(f"GPU-{n}") for n in range(3)]
    host = Host(SteeredBackend("a", *sources))
    for source in sources:
        source.answer = lambda: host.clock.pass_by(0.4) or POWER

    ticks = [host.tick() for _ in range(6)]

    for source in sources:
        assert sum(tick.readings[source.device.uuid] == POWER for tick in ticks) == 2


def test_what_is_let_go_of_is_not_called_and_says_so():
    backend = SteeredBackend("a")
    host = Host(backend)
    host.tick()
    reads = backend.found[0].reads
    host.collector.release({})

    assert host.tick().readings == {"GPU-a": {"power_draw_watts": AbsentReason.RELEASED}}
    assert (backend.closed, backend.found[0].reads) == (1, reads)


def test_what_is_taken_up_again_is_read_in_the_same_tick():
    backend = SteeredBackend("a")
    host = Host(backend)
    host.tick()
    host.collector.release({})
    host.tick()
    host.collector.resume()

    assert host.tick().readings == {"GPU-a": POWER}
    assert backend.opened == 2


def test_a_backend_that_holds_no_driver_is_never_let_go_of():
    backend = SteeredBackend("cpu")
    backend.releasable = False
    host = Host(backend)
    host.tick()
    host.collector.release({})

    assert host.tick().readings == {"GPU-cpu": POWER}


def test_devices_known_from_before_a_restart_stay_released():
    backend = SteeredBackend("a")
    host = Host(backend)
    host.collector.release({"a": [backend.found[0].device]})

    assert host.tick().readings == {"GPU-a": {"gpu_utilization_ratio": AbsentReason.RELEASED}}
    assert backend.opened == 0


def test_between_full_ticks_only_power_is_read():
    host = Host(SteeredBackend("a", PowerSource("GPU-1"), SteeredSource("GPU-2")))
    host.tick()

    assert host.tick(after=0.1, is_full=False).readings == {"GPU-1": {"power_draw_watts": 301.0}}


def test_processes_are_looked_at_every_ten_seconds():
    backend = SteeredBackend("a")
    backend.found[0].users = [DeviceProcess(42)]
    host = Host(backend)

    seen = [bool(host.tick().processes) for _ in range(21)]

    assert [n for n, has_processes in enumerate(seen) if has_processes] == [0, 10, 20]


def test_what_the_driver_reports_comes_with_the_tick():
    backend = SteeredBackend("a")
    host = Host(backend)
    backend.events = [DeviceEvent("GPU-a", EventKind.XID, 79, 1)]

    assert [event.code for event in host.tick().events] == [79]
    assert host.tick().events == []


def test_the_topologies_of_several_kinds_are_one():
    one, other = SteeredBackend("a"), SteeredBackend("b")
    one.joined = Topology([("GPU-1", "GPU-2", "NV18")], {"GPU-1": 0})
    other.joined = Topology([], {"GPU-3": 1})
    host = Host(one, other)
    host.tick()

    assert host.collector.topology() == Topology([("GPU-1", "GPU-2", "NV18")], {"GPU-1": 0, "GPU-3": 1})


readings = st.one_of(
    st.floats(), st.integers(), st.sampled_from(list(AbsentReason)), st.none(), st.text(max_size=3), st.booleans(),
    st.complex_numbers(), st.decimals(), st.fractions(), st.binary(max_size=3),
)  # fmt: skip
answers = st.one_of(
    st.dictionaries(st.sampled_from([*BY_NAME, "no_metric"]), readings, max_size=8), readings, st.just(ValueError("broken"))
)  # fmt: skip


@given(st.lists(st.tuples(answers, answers), min_size=1, max_size=4))
def test_whatever_a_source_answers_nothing_is_invented(given_answers):
    now: list[object] = [None, None]

    def give(place):
        if isinstance(now[place], Exception):
            raise now[place]
        return now[place]

    sources = [SteeredSource(f"GPU-{n}", lambda n=n: give(n)) for n in range(2)]
    host = Host(SteeredBackend("a", *sources))
    ticks = []
    for pair in given_answers:
        now[:] = pair
        ticks.append(host.tick())

    (batch,) = BatchMaker("h", "0" * 32, Names("1" * 32), 1.0).make(ticks, {}, None, lambda: 0.0)
    found = received.unpack(wire.pack(batch))

    assert [device.uuid for device in found.devices] == ["GPU-0", "GPU-1"]
    for metric, columns in found.columns.items():
        for place, column in enumerate(columns):
            for tick, value in enumerate(column):
                raw = given_answers[tick][place]
                if value is not None:
                    assert isinstance(raw[metric], (int, float))
                    assert value == pytest.approx(float(raw[metric]), rel=1e-9, abs=BY_NAME[metric].resolution)


def test_a_backend_that_has_no_news_is_not_asked_for_its_sources_and_events():
    backend = SteeredBackend("a")
    news = [False]
    backend.has_news = lambda: news[0]
    host = Host(backend)
    host.tick()
    backend.events = [DeviceEvent("GPU-a", EventKind.XID, 79, 1, 1)]
    backend.found = [*backend.found, SteeredSource("GPU-b")]

    assert (host.tick().readings.keys(), host.tick().events) == ({"GPU-a"}, [])

    news[0] = True
    tick = host.tick()
    assert tick.readings.keys() == {"GPU-a", "GPU-b"}
    assert [event.uuid for event in tick.events] == ["GPU-a"]
