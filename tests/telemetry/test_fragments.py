"""A host's lines: whatever it told before, they are those of a host that tells this for the first time."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families as read_text

from fleet.models import Host
from telemetry.catalog import METRICS
from telemetry.exposition.fragments import HostFragments
from telemetry.exposition.own_names import Names
from telemetry.exposition.presence import DeviceNow, HostNow
from telemetry.store.newest import Identity
from tests.telemetry.exposed import NOW, READINGS

HOST = Host(pk=1, name="gpu-a01", cluster="alpha", last_seen_at=NOW, heard_at=NOW)
_METRICS = [metric.name for metric in METRICS]
numbers = st.integers(0, 2**53) | st.floats(0, 1e15)
readings = st.dictionaries(st.sampled_from([*_METRICS[:4], "xid_last", "energy_joules_total"]), numbers, max_size=4)
devices = st.lists(st.tuples(st.booleans(), st.sampled_from(["nvidia", "cpu"]), readings), max_size=3)


def told(state: list[tuple[bool, str, dict[str, float]]]) -> HostNow:
    found = [
        DeviceNow(Identity(1, n, f"GPU-{n}", kind, n, "L4", "", "", None, ""), is_up, values)
        for n, (is_up, kind, values) in enumerate(state)
    ]
    return HostNow(HOST, is_silent=False, devices=found)


def fresh(now: HostNow, names: Names) -> list[bytes]:
    return list(HostFragments(now).of(names))


@given(st.lists(devices, min_size=2, max_size=5))
def test_lines_never_depend_on_what_was_told_before(states: list) -> None:
    host = HostFragments(told(states[0]))
    for state, names in product(states, Names):
        host.tell(told(state))
        assert list(host.of(names)) == fresh(told(state), names)


@given(devices)
def test_every_value_reads_back_as_it_was(state: list) -> None:
    text = b"".join(fresh(told(state), Names.STEPWATT)).decode()
    found = {(s.name, s.labels["uuid"]): s.value for f in read_text(text) for s in f.samples if "uuid" in s.labels}
    for number, (_, _, values) in enumerate(state):
        for name, value in values.items():
            assert found[f"stepwatt_{name}", f"GPU-{number}"] == float(value)


def test_lines_that_stay_as_they_were_are_the_same_objects() -> None:
    host = HostFragments(told([(True, "nvidia", READINGS)]))
    before = host.of(Names.STEPWATT)
    host.tell(told([(True, "nvidia", READINGS | {"power_draw_watts": 700.5})]))
    after = host.of(Names.STEPWATT)
    changed = {old.partition(b"{")[0] for old, new in zip(before, after, strict=True) if old is not new}
    assert b"stepwatt_power_draw_watts" in changed
    assert not changed & {b"stepwatt_temperature_celsius", b"stepwatt_memory_used_bytes"}
