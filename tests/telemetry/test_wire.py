"""The batch on the wire."""

import string
import tracemalloc
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.catalog import BY_NAME, METRICS, AbsentReason, Metric
from telemetry.decoding import received
from telemetry.message import codec, envelope, header, wire
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceKind, DeviceProcess, EventKind, Topology
from tests.telemetry.batches import GPU, MIG, NODE, batch

DATA = Path(__file__).parents[1] / "data"

SENT = batch(
    [1000, 2000],
    {"power_draw_watts": [300.125, None], "energy_joules_total": [1234.567, 1534.569]},
    others=[MIG, NODE],
    absent={"fan_speed_ratio": AbsentReason.NOT_SUPPORTED, "power_draw_watts": AbsentReason.TIMEOUT},
    machine="0123456789abcdef" * 2,
    events=[DeviceEvent(GPU.uuid, EventKind.XID, 79, 1500), DeviceEvent(MIG.uuid, EventKind.CLOCK, 2**40, 1600, 7)],
    processes={GPU.uuid: [DeviceProcess(42, "python train.py", "ada", 2**33, 0.25, "", "job 7")], NODE.uuid: []},
    topology=Topology([(GPU.uuid, MIG.uuid, "NV18")], {GPU.uuid: 0, NODE.uuid: 1}),
)


def altered(**fields):
    """SENT with other fields in its head; `v`, `head` and `body` stand outside it."""
    message = msgpack.unpackb(wire.pack(SENT))
    head = msgpack.unpackb(zstandard.decompress(message["head"]))
    outside = {name: fields.pop(name) for name in ("v", "head", "body") if name in fields}
    message["head"] = zstandard.compress(msgpack.packb(head | fields))
    return msgpack.packb(message | outside)


def test_a_batch_comes_back_as_it_was_sent():
    assert received.unpack(wire.pack(SENT)) == SENT


texts = st.text(string.ascii_letters + string.digits + "äß漢 /.-", max_size=20)
uuids = st.from_regex(r"(GPU-|MIG-|)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9/_.:-]{0,95}", fullmatch=True)
devices = st.builds(
    DeviceInfo, uuids | names, st.sampled_from(DeviceKind), st.integers(0, 99), texts, texts, texts, uuids | st.just(""), texts
)  # fmt: skip


@st.composite
def batches(draw):
    """Return any batch that an agent may make."""
    known = draw(st.lists(devices, max_size=4, unique_by=lambda device: device.uuid))
    of_device = st.sampled_from(known) if known else st.nothing()
    steps = draw(st.lists(st.integers(1, 5000), max_size=5))
    times = [10**12 + sum(steps[:n]) for n in range(len(steps) + 1)]
    metrics = draw(st.lists(st.sampled_from(METRICS), max_size=6, unique=True))
    reading = st.none() | st.integers(-(2**40), 2**40)
    column = st.lists(reading, min_size=len(times), max_size=len(times))
    blocks = st.lists(column, min_size=len(known), max_size=len(known)).filter(
        lambda block: any(value is not None for column in block for value in column)
    )
    reasons = st.dictionaries(st.sampled_from(list(BY_NAME)), st.sampled_from(AbsentReason), min_size=1, max_size=5)
    event = st.builds(
        DeviceEvent, of_device.map(lambda d: d.uuid), st.sampled_from(EventKind),
        st.integers(0, 2**60), st.integers(0, 10**13), st.integers(1, 99),
    )  # fmt: skip
    process = st.builds(
        DeviceProcess, st.integers(0, 2**31), texts, texts, st.none() | st.integers(0, 2**50), only_draws=st.booleans()
    )
    return replace(
        SENT,
        times_ms=times,
        devices=known,
        columns={
            metric.name: [
                [None if n is None else received._in_base_units(metric.name, [[n]])[0][0] for n in column]
                for column in draw(blocks)
            ]
            for metric in (metrics if known else ())
        },
        absent=draw(st.dictionaries(of_device.map(lambda d: d.uuid), reasons)),
        software=draw(st.none() | st.dictionaries(texts, texts, max_size=3)),
        sample_seconds=draw(st.sampled_from([0.1, 1.0, 10.0])),
        machine=draw(st.sampled_from(["", "ab" * 16])),
        events=draw(st.lists(event, max_size=3)),
        processes=draw(st.dictionaries(of_device.map(lambda d: d.uuid), st.lists(process, max_size=3))),
        topology=draw(st.none() | st.just(SENT.topology)),
    )


@given(batches())
@settings(max_examples=100, deadline=None)
def test_any_batch_comes_back_as_it_was_sent(sent):
    assert received.unpack(wire.pack(sent)) == sent


def test_of_a_process_that_does_not_only_draw_a_server_of_the_release_before_reads_what_it_knows():
    computes, draws = DeviceProcess(42, "python"), DeviceProcess(43, "Xorg", only_draws=True)

    rows = header.put_processes({GPU.uuid: [computes, draws]}, {GPU.uuid: 0})

    assert [len(row) for row in rows[0][1]] == [7, 8]
    assert header.read_processes(rows, [GPU.uuid]) == {GPU.uuid: [computes, draws]}


@pytest.mark.parametrize("metric", BY_NAME.values(), ids=lambda metric: metric.name)
def test_each_metric_keeps_its_resolution(metric: Metric):
    value = 1234 * metric.resolution

    found = received.unpack(wire.pack(batch([1000], {metric.name: [value]})))

    assert found.columns[metric.name][0][0] == pytest.approx(value, rel=1e-12)


def test_a_metric_of_a_newer_agent_is_left_out():
    body = zstandard.compress(codec.BLOCK_HEAD.pack(2, 1, 0, 0) + b"\xff\x7f\x01")  # number 32767, all readings 0

    assert received.unpack(altered(body=body)).columns == {}


def test_only_the_metrics_that_are_wanted_are_taken_out():
    assert list(received.unpack(wire.pack(SENT), ["energy_joules_total"]).columns) == ["energy_joules_total"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"v": 9}, "v:"),
        ({"v": [1]}, "v:"),
        ({"head": b"\x00"}, "head"),
        ({"head": "text"}, "head"),
        ({"head": zstandard.compress(b"\x93\x01\x02\x03")}, "message: expected a map"),
        ({"host": "../etc"}, "host"),
        ({"epoch": b"short"}, "epoch"),
        ({"seq": -1}, "seq"),
        ({"seq": True}, "seq"),
        ({"times": []}, "times_ms"),
        ({"times": [2000, 0]}, "times_ms"),
        ({"times": [1000, 2**60]}, "times_ms"),
        ({"times": [1000, -5]}, "times"),
        ({"every": float("nan")}, "sample_seconds"),
        ({"machine": b"x"}, "machine"),
        ({"devices": [["x"]]}, "devices"),
        ({"devices": [[GPU.uuid, "quantum", 0, "", "", "", "", ""]]}, "kind"),
        ({"devices": [["GPU <b>", "nvidia", 0, "", "", "", "", ""]]}, "uuid"),
        ({"devices": [[["GPU"], "nvidia", 0, "", "", "", "", ""]]}, "uuid"),
        ({"devices": [[b"0" * 16 + b"\xff", "nvidia", 0, "", "", "", "", ""]]}, "uuid"),
        ({"absent": [["timeout", [9], [1]]]}, "absent"),
        ({"absent": [["timeout", [0] * 4, [1] * 999]]}, "absent"),
        ({"events": [[0, "xid", 79, 2**61, 1]]}, "events"),
        ({"events": [[0, ["xid"], 79, 1, 1]]}, "events"),
        ({"events": [[3, "xid", 79, 1, 1]]}, "events"),
        ({"processes": [[0, [[1, "x"]]]]}, "processes"),
        ({"processes": {"GPU": []}}, "processes"),
        ({"topology": [[["a", "b", 3]], []]}, "topology"),
        ({"topology": [[], [["<a>", 3]]]}, "topology"),
        ({"body": "text"}, "body"),
        ({"body": b"\x05\x00"}, "body"),
        ({"body": zstandard.compress(b"\x05\x00")}, "body"),
        ({"software": []}, "software"),
    ],
)
def test_a_field_that_does_not_fit_is_named(fields, named):
    with pytest.raises(wire.MessageInvalid, match=named):
        received.unpack(altered(**fields))


def test_a_reason_of_a_newer_agent_is_unknown():
    found = received.unpack(altered(absent=[["stolen", [0], [10]]]))

    assert found.absent == {GPU.uuid: {"power_draw_watts": AbsentReason.UNKNOWN}}


def test_an_event_of_a_device_that_is_not_in_the_batch_is_refused_when_it_is_packed():
    with pytest.raises(wire.MessageInvalid, match="GPU-other"):
        wire.pack(replace(SENT, events=[DeviceEvent("GPU-other", EventKind.XID, 79, 1000)]))


@given(st.binary(max_size=300))
def test_foreign_bytes_are_refused_and_nothing_else(payload):
    with pytest.raises(wire.MessageInvalid):
        received.unpack(payload)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=9) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
FIELDS = ["v", "head", "body", "host", "epoch", "seq", "segment", "sent", "times", "every", "machine", "devices",
          "absent", "events", "processes", "software", "topology"]  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), anything, min_size=1))
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_field_is_read_or_refused(fields):
    read_or_refused(altered(**fields))


@pytest.mark.parametrize("golden", ["batch_v2.hex", "batch_v3.hex"])
def test_a_flipped_bit_is_read_or_refused(golden):
    whole = stored(golden)

    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        read_or_refused(bytes(flipped))


def read_or_refused(payload):
    try:
        found = received.unpack(payload)
    except wire.MessageInvalid:
        return
    assert all(len(block) == len(found.devices) for block in found.columns.values())


def test_a_head_that_states_too_much_is_refused_before_it_is_unpacked():
    with pytest.raises(wire.MessageInvalid, match="50000000"):
        received.unpack(altered(head=zstandard.compress(bytes(50_000_000))))


def test_a_head_that_states_no_size_is_refused():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(50_000_000))

    with pytest.raises(wire.MessageInvalid, match="head"):
        received.unpack(altered(head=frame))


def test_what_is_kept_of_a_host_from_batch_to_batch_is_bounded_in_bytes():
    devices = [replace(GPU, uuid=f"GPU-{n}", model="x" * 200) for n in range(1000)]
    reasons = {metric.name: AbsentReason.TIMEOUT for metric in METRICS[:30]}
    large = replace(batch([1], {}), devices=devices, absent={device.uuid: reasons for device in devices})
    caches = [received._kept_devices, received._kept_absent]
    before = [cache.cache_info().currsize for cache in caches]
    found = received.unpack(wire.pack(large))

    assert (found.devices, found.absent) == (devices, large.absent)
    assert [cache.cache_info().currsize for cache in caches] == before


def test_what_anybody_may_send_is_named_in_few_characters():
    for payload in ({"v": "x" * 3_000_000}, {"v": 1, "body": b"", "nonce": b"", "sig": b"", "host": "x" * 3_000_000}):
        with pytest.raises(wire.MessageInvalid) as refused:
            envelope.read(msgpack.packb(payload))
        assert len(str(refused.value)) < 250


def test_more_ticks_than_can_be_read_are_not_packed():
    times = list(range(wire.MAX_TICKS + 1))
    with pytest.raises(wire.MessageInvalid, match="10001"):
        wire.pack(batch(times, {}))
    assert len(received.unpack(wire.pack(batch(times[1:], {}))).times_ms) == wire.MAX_TICKS


@pytest.mark.parametrize("part", [b"\x80", b"\x90", b"\xc1"])
def test_a_message_of_millions_of_empty_parts_is_refused_before_they_are_made(part):
    n = 90_000
    rows = b"\xdc\x00\x28" + (b"\xdd" + n.to_bytes(4, "big") + part * n) * 40
    tracemalloc.start()
    with pytest.raises(wire.MessageInvalid):
        received.unpack(b"\x81\xa1x" + rows)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_message_over_the_bound_is_refused():
    with pytest.raises(wire.MessageInvalid, match="at most"):
        received.unpack(bytes(wire.MAX_BYTES + 1))


def stored(name):
    return bytes.fromhex((DATA / name).read_text())


def test_a_batch_of_an_agent_two_versions_back_is_refused():
    with pytest.raises(wire.MessageInvalid, match="v:"):
        received.unpack(stored("batch_v1.hex"))


def test_a_stored_batch_of_version_2_stays_readable():
    assert received.unpack(stored("batch_v2.hex")) == SENT


def test_a_stored_batch_of_version_3_stays_readable():
    assert received.unpack(stored("batch_v3.hex")) == SENT


def test_a_batch_has_the_bytes_that_it_had():
    then, now = (msgpack.unpackb(message) for message in (stored("batch_v3.hex"), wire.pack(SENT)))

    assert zstandard.decompress(now["body"]) == zstandard.decompress(then["body"])
    assert zstandard.decompress(now["head"]) == zstandard.decompress(then["head"])
