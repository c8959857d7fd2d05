"""The agent's own cost, told on the device of kind node."""

import resource

from telemetry.agent.backends.node import NodeBackend
from telemetry.agent.collector import Collector
from telemetry.agent.own_cost import OwnCost
from telemetry.catalog import BY_NAME
from telemetry.message.wire import DeviceKind

SENT = {
    "agent_batches_sent_total": 7, "agent_batches_spooled": 2, "agent_batches_dropped_total": 1, "agent_spool_bytes": 40_960,
    "agent_spool_failed": 0,
}  # fmt: skip
CLOCK = {"host_clock_offset_seconds": 0.5, "host_clock_error_seconds": 0.01}


def own_cost(**pace):
    return OwnCost(lambda: 0.002, (lambda: SENT, lambda: CLOCK), lambda: 3, **pace)


def test_it_tells_every_metric_that_the_catalogue_has_of_the_agent():
    assert set(own_cost()()) == {name for name in BY_NAME if name.startswith(("agent_", "host_clock_"))}


def test_it_is_what_the_process_has_used():
    cost = own_cost(kept_seconds=0.0)
    before = cost()["agent_cpu_seconds_total"]
    sum(range(3_000_000))
    after = cost()["agent_cpu_seconds_total"]

    used = resource.getrusage(resource.RUSAGE_SELF)
    assert before < after <= used.ru_utime + used.ru_stime


def test_it_is_counted_every_five_seconds_and_lateness_at_each_tick():
    now, late, counted = [100.0], [0.001], []
    cost = OwnCost(lambda: late[0], (lambda: counted.append(now[0]) or SENT,), lambda: 3, clock=lambda: now[0])
    told = []
    for second in range(10):
        now[0], late[0] = 100.0 + second, 0.001 * second
        told.append(cost()["agent_tick_lateness_seconds"])

    assert counted == [100.0, 105.0]
    assert told == [0.001 * second for second in range(10)]


def test_its_memory_is_what_the_kernel_counts():
    resident = own_cost()()["agent_resident_bytes"]

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert highest / 20 < resident <= highest * 1.05


def test_it_travels_with_the_node(tmp_path):
    backend = NodeBackend(tmp_path, own_cost())
    tick = Collector([backend], 1.0).sample(1, backend._clock(), 0.0)

    [(uuid, device)] = tick.devices.items()
    assert device.kind is DeviceKind.NODE
    assert SENT.items() <= tick.readings[uuid].items()
