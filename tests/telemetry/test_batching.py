"""From ticks to batches, without threads and on a clock that the test holds."""

import pytest

from telemetry.agent.batching import GAP_SECONDS, TELL_SECONDS, BatchMaker, machine_digest
from telemetry.agent.names import Names
from telemetry.agent.ticks import Tick
from telemetry.catalog import AbsentReason
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.wire import MAX_SPAN_MS, DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, EventKind, Topology

GPU = DeviceInfo("GPU-a", DeviceKind.NVIDIA, 0, "test device")
MACHINE, EPOCH = "a" * 32, "b" * 32
READINGS = {"power_draw_watts": 300.0, "fan_speed_ratio": AbsentReason.NOT_SUPPORTED}


def tick(boot, offset=1000.0, readings=READINGS, *, is_full=True, device=GPU, **fields):
    made = Tick(int(boot), boot, offset, is_full, **fields)
    made.put(device, dict(readings))
    return made


def maker(names=None):
    return BatchMaker("gpu-a01", MACHINE, names or Names(EPOCH), 1.0)


def batches_of(*ticks, by=None, software=None, topology=None):
    made = (by or maker()).make(ticks, software or {}, topology, lambda: 2000.5)
    return [received.unpack(wire.pack(batch)) for batch in made]


def test_ticks_become_one_batch_with_times_values_and_reasons():
    (batch,) = batches_of(tick(10), tick(11, readings={**READINGS, "power_draw_watts": 310.0}))

    assert batch.times_ms == [1_010_000, 1_011_000]
    assert batch.columns == {"power_draw_watts": [[300, 310]]}
    assert batch.absent == {"GPU-a": {"fan_speed_ratio": AbsentReason.NOT_SUPPORTED}}


def test_a_batch_names_host_machine_epoch_and_moment():
    (batch,) = batches_of(tick(10))

    assert (batch.host, batch.machine, batch.epoch, batch.sent_ms) == ("gpu-a01", MACHINE, EPOCH, 2_000_500)


def test_a_wall_clock_that_jumps_begins_a_new_segment():
    before, after = batches_of(tick(10), tick(11), tick(12, 400), tick(13, 400))

    assert (before.segment, after.segment) == (0, 1)
    assert after.times_ms == [412_000, 413_000]
    assert (before.sequence, after.sequence) == (0, 1)


def test_another_start_with_the_same_clock_goes_on_in_the_segment_and_one_with_another_does_not():
    names = Names(EPOCH)
    found = [
        batches_of(tick(boot, offset), by=maker(names))[0] for boot, offset in ((10, 1000), (20, 1000.1), (5, 1800))
    ]

    assert [batch.segment for batch in found] == [0, 0, 1]
    assert [batch.sequence for batch in found] == [0, 1, 2]


def test_a_clock_that_is_slewed_stays_in_its_segment():
    assert [batch.segment for batch in batches_of(*[tick(10 + n, 1000 + 0.01 * n) for n in range(50)])] == [0]


@pytest.mark.parametrize("seconds", [3600, 90_000])
def test_what_was_sampled_before_and_after_a_suspend_are_two_batches_of_one_segment(seconds):
    before, after = batches_of(tick(10), tick(11), tick(11 + seconds), tick(12 + seconds))

    assert before.times_ms == [1_010_000, 1_011_000]
    assert after.times_ms == [1_011_000 + seconds * 1000, 1_012_000 + seconds * 1000]
    assert (before.segment, after.segment) == (0, 0)


def test_a_batch_spans_no_more_than_a_message_may():
    every = GAP_SECONDS - 1
    made = batches_of(*[tick(n * every) for n in range(1, 600)])

    assert sum(len(batch.times_ms) for batch in made) == 599
    assert all(batch.times_ms[-1] - batch.times_ms[0] <= MAX_SPAN_MS for batch in made)
    assert len(made) == 3


def test_ticks_that_are_far_apart_by_design_share_a_batch():
    made = batches_of(tick(1000), tick(1600), tick(2200), by=BatchMaker("gpu-a01", MACHINE, Names(EPOCH), 600.0))

    assert [len(batch.times_ms) for batch in made] == [3]


def test_software_and_topology_are_told_first_and_after_a_change():
    by, joined = maker(), Topology([], {"GPU-a": 0})
    told = []
    for boot, software, topology in ((10, "1", None), (11, "1", None), (12, "2", joined), (13, "2", joined)):
        (batch,) = batches_of(tick(boot), by=by, software={"driver": software}, topology=topology)
        told.append((batch.software, batch.topology))

    assert [software for software, _ in told] == [{"driver": "1"}, None, {"driver": "2"}, None]
    assert [topology for _, topology in told] == [None, None, joined, None]


def test_an_event_waits_for_a_batch_that_has_its_device():
    by, xid = maker(), DeviceEvent("GPU-late", EventKind.XID, 79, 1)
    (first,) = batches_of(tick(10, events=[xid]), by=by)
    (second,) = batches_of(tick(11, device=DeviceInfo("GPU-late", DeviceKind.NVIDIA, 1, "test device")), by=by)

    assert (first.events, second.events) == ([], [xid])


def test_processes_are_those_that_were_seen_last():
    (batch,) = batches_of(
        tick(10, processes={"GPU-a": [DeviceProcess(1)]}), tick(11, processes={"GPU-a": []}), tick(12)
    )

    assert batch.processes == {"GPU-a": []}


def test_what_lies_between_full_ticks_is_power_and_no_reason():
    power = {"power_draw_watts": 301.0}
    (batch,) = batches_of(
        tick(9.8, readings=power, is_full=False), tick(9.9, readings={}, is_full=False),
        tick(10, readings={**READINGS, "temperature_celsius": 40.0}),
    )  # fmt: skip

    assert batch.columns == {"power_draw_watts": [[301, None, 300]], "temperature_celsius": [[None, None, 40]]}
    assert batch.absent == {"GPU-a": {"fan_speed_ratio": AbsentReason.NOT_SUPPORTED}}


@pytest.mark.parametrize("full", [{0, 4}, {3}, {0, 2, 4}, {0, 1, 4}, {0, 1, 2, 3, 4}, {1, 4}])
def test_ticks_of_power_and_full_ones_stand_in_their_order_however_they_came(full):
    ticks = [tick(10 + n, readings={"power_draw_watts": 300.0 + n}, is_full=n in full) for n in range(5)]
    for n in full:
        ticks[n].readings["GPU-a"]["temperature_celsius"] = 40.0 + n
    (batch,) = batches_of(*ticks)

    assert batch.columns["power_draw_watts"] == [[300 + n for n in range(5)]]
    assert batch.columns["temperature_celsius"] == [[40 + n if n in full else None for n in range(5)]]


def test_a_clock_that_jumps_between_full_ticks_leaves_a_batch_of_power_alone():
    power = {"power_draw_watts": 301.0}
    (batch, later) = batches_of(
        tick(9.8, readings=power, is_full=False), tick(9.9, readings=power, is_full=False), tick(10, 400)
    )

    assert batch.columns == {"power_draw_watts": [[301, 301]]}
    assert later.columns == {"power_draw_watts": [[300]]}


def test_a_device_that_was_not_read_in_a_tick_has_a_gap_there():
    between = Tick(11, 11.0, 1000.0)
    (batch,) = batches_of(tick(10), between, tick(12))

    assert batch.columns["power_draw_watts"] == [[300, None, 300]]


def test_devices_with_other_metrics_share_a_batch():
    cpu = DeviceInfo("CPU-a", DeviceKind.CPU, 0, "processor")
    both = tick(10)
    both.put(cpu, {"host_cpu_utilization_ratio": 0.5})
    (batch,) = batches_of(both)

    assert batch.columns == {"power_draw_watts": [[300], [None]], "host_cpu_utilization_ratio": [[None], [0.5]]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30, 10**400, "1", True + 1j, object()])
def test_what_is_no_reading_becomes_unknown_and_its_neighbours_stay(value):
    (batch,) = batches_of(tick(10), tick(11, readings={"power_draw_watts": value}))

    assert batch.columns == {"power_draw_watts": [[300, None]]}
    assert batch.absent == {"GPU-a": {"power_draw_watts": AbsentReason.UNKNOWN}}


def test_a_metric_that_the_catalogue_does_not_know_is_left_out():
    (batch,) = batches_of(tick(10, readings={**READINGS, "mood_ratio": 1.0}))

    assert set(batch.columns) == {"power_draw_watts"}


def test_the_machines_id_cannot_be_read_from_its_digest():
    digest = machine_digest("c" * 32)

    assert len(digest) == 32
    assert digest != "c" * 32
    assert digest != machine_digest("d" * 32)


def test_times_never_fall_within_a_batch():
    (batch,) = batches_of(*[tick(boot) for boot in (10, 12, 11)])

    assert batch.times_ms == [1_010_000, 1_011_000, 1_012_000]


@pytest.mark.parametrize("later", [tick(10 + TELL_SECONDS), tick(11, 400)])
def test_software_and_topology_are_told_again_after_five_minutes_and_in_a_new_segment(later):
    by, known = maker(), {"software": {"driver": "1"}, "topology": Topology([], {"GPU-a": 0})}
    batches_of(tick(10), by=by, **known)

    (batch,) = batches_of(later, by=by, **known)

    assert {"software": batch.software, "topology": batch.topology} == known
