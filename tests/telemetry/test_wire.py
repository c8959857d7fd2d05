"""The batch on the wire."""

from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry import wire
from telemetry.catalog import BY_NAME, AbsentReason, Metric
from tests.telemetry.batches import GPU, batch


def altered(**fields):
    message = msgpack.unpackb(wire.pack(batch([1000, 2000], {"power_draw_watts": [300.125, None]})))
    return msgpack.packb(message | fields)


def test_a_batch_comes_back_as_it_was_sent():
    sent = batch(
        [1000, 2000],
        {"power_draw_watts": [300.125, None], "energy_joules_total": [1234.567, 1534.569]},
        absent={"fan_speed_ratio": AbsentReason.NOT_SUPPORTED},
    )

    assert wire.unpack(wire.pack(sent)) == sent


@pytest.mark.parametrize("metric", BY_NAME.values(), ids=lambda metric: metric.name)
def test_each_metric_keeps_its_resolution(metric: Metric):
    value = 1234 * metric.resolution

    received = wire.unpack(wire.pack(batch([1000], {metric.name: [value]})))

    assert received.columns[metric.name][0][0] == pytest.approx(value, rel=1e-12)


def test_a_metric_of_a_newer_agent_is_left_out():
    received = wire.unpack(altered(metrics=["metric_of_tomorrow"]))

    assert received.columns == {}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"v": 9}, "v:"),
        ({"host": "../etc"}, "host"),
        ({"epoch": "short"}, "epoch"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"times_ms": []}, "times_ms"),
        ({"times_ms": [2000, 1000]}, "times_ms"),
        ({"times_ms": [1000, 1000]}, "times_ms"),
        ({"devices": [["x"]]}, "devices"),
        ({"devices": [[GPU.uuid, "quantum", 0, "", "", ""]]}, "kind"),
        ({"devices": [["GPU <b>", "nvidia", 0, "", "", ""]]}, "uuid"),
        ({"body": "text"}, "body"),
        ({"body": b"\x00"}, "body"),
        ({"agent": {"resident_bytes": float("nan")}}, "agent"),
        ({"software": []}, "software"),
    ],
)
def test_a_field_that_does_not_fit_is_named(fields, named):
    with pytest.raises(wire.MessageInvalid, match=named):
        wire.unpack(altered(**fields))


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused_and_nothing_else(payload):
    with pytest.raises(wire.MessageInvalid):
        wire.unpack(payload)


def test_a_message_over_the_bound_is_refused():
    with pytest.raises(wire.MessageInvalid, match="at most"):
        wire.unpack(bytes(wire.MAX_BYTES + 1))


def test_a_stored_batch_of_version_1_stays_readable():
    golden = bytes.fromhex((Path(__file__).parents[1] / "data" / "batch_v1.hex").read_text())

    received = wire.unpack(golden)

    assert received.columns["energy_joules_total"] == [[1234.567, 1534.569]]
    assert received.columns["power_draw_watts"] == [[300.125, None]]
