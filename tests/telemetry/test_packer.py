"""An agent's batches, laid out anew only where they differ from the batch before: to the server they are as any."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry.agent.packer import ANEW_BATCHES, Packer
from telemetry.decoding import received
from telemetry.message import wire
from telemetry.message.wire import Batch, DeviceInfo, DeviceKind

GPUS = [DeviceInfo(f"GPU-{letter}", DeviceKind.NVIDIA, place, "test device") for place, letter in enumerate("ab")]
METRICS = ("power_draw_watts", "memory_used_bytes", "fan_speed_ratio")
READINGS = st.sampled_from([None, 0.0, 1.0, 250.0])
COLUMNS = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(METRICS, st.lists(st.tuples(READINGS, READINGS), min_size=2, max_size=2))
)


def batch(columns, sequence=0):
    return Batch(
        host="gpu-a01", epoch="b" * 32, sequence=sequence, segment=0, sent_ms=0, times_ms=[1000, 2000], devices=GPUS,
        columns=columns, machine="a" * 32,
    )  # fmt: skip


def read(packed):
    return received.unpack(packed).columns


@given(st.lists(COLUMNS, min_size=1, max_size=ANEW_BATCHES + 3))
def test_whatever_came_before_the_server_reads_what_it_would_read_without(all_columns):
    packer = Packer()
    for sequence, columns in enumerate(all_columns):
        made = batch(columns, sequence)
        assert read(packer.pack(made)) == read(wire.pack(made))


def test_what_stands_still_is_laid_out_once(monkeypatch):
    laid_out = []
    monkeypatch.setattr(
        "telemetry.agent.packer.lay_out", lambda columns: laid_out.append(list(columns)) or wire.lay_out(columns)
    )
    packer = Packer()
    for power in range(4):
        packer.pack(batch({"power_draw_watts": [(power, power)] * 2, "memory_used_bytes": [(7, 7), (8, 8)]}))
    assert laid_out[-2:] == [["power_draw_watts"], ["power_draw_watts"]]


def test_what_stood_still_and_changes_is_told():
    packer = Packer()
    for _ in range(3):
        packer.pack(batch({"memory_used_bytes": [(7, 7), (8, 8)]}))
    changed = {"memory_used_bytes": [(7, 7), (8, 9)]}
    assert read(packer.pack(batch(changed))) == {"memory_used_bytes": [[7, 7], [8, 9]]}


def test_what_stood_still_and_moved_again_is_not_laid_out_with_what_stands(monkeypatch):
    laid_out = []
    monkeypatch.setattr(
        "telemetry.agent.packer.lay_out", lambda columns: laid_out.append(list(columns)) or wire.lay_out(columns)
    )
    packer = Packer()
    for limit in (0, 0, 0, 0, 1, 1, 1, 1):
        packer.pack(batch({"power_draw_watts": [(limit, limit)] * 2, "memory_used_bytes": [(7, 7), (8, 8)]}))
    assert laid_out[-3:] == [["power_draw_watts"]] * 3
