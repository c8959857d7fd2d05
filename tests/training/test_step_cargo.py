"""Steps that come with telemetry batches: stored with the batch, once, under their run and process."""

from dataclasses import replace
from datetime import timedelta

import msgpack
import numpy as np
import pytest

from fleet.models import Event, EventKind, Host
from telemetry.agent.steps import Frame, Moment
from telemetry.message import envelope, wire
from telemetry.message.wire import INGEST_TASK, MAX_CARGO_BYTES
from telemetry.models import SetAside
from telemetry.receiving import authentic
from telemetry.receiving.ingest import ingest_group
from tests.factories import make_device
from tests.telemetry.batches import GPU as DEVICE
from tests.telemetry.batches import batch, enrolled, take
from tests.telemetry.test_authentic import KEY, NOW
from training.host.steps import StepHold
from training.models import Run, RunRank
from training.steps import datagram
from training.steps.datagram import UNTOLD_NS, Record
from training.steps.store import read

NOW_MS = int(NOW.timestamp() * 1000)
SECOND = 10**9
HERE = Moment(1_000 * SECOND, NOW_MS * 1_000_000)
HEAD = {"run": "llm", "launch": "l1", "process": "a" * 32, "rank": 0, "world_size": 2, "about": {"dtype": "bf16"}}
NAN = float("nan")

pytestmark = pytest.mark.django_db


def blocks(*sequences, uid=0, nanoseconds=SECOND // 2, dropped=0, **head):
    """Return what an agent makes of the frames of one process."""
    hold = StepHold()
    frames = [
        Frame(
            datagram.put(HEAD | head, Record(n, dropped, n, HERE.monotonic_ns, nanoseconds, UNTOLD_NS, 8, NAN, NAN, 0, 0)),
            77, uid, uid,
        )
        for n in sequences
    ]  # fmt: skip
    assert hold.put(frames, HERE) == 0
    return hold.take(MAX_CARGO_BYTES)


def packed(*pieces, sequence=0, host="gpu-a01", at_ms=NOW_MS, **fields):
    made = batch([at_ms], {"power_draw_watts": [650.0]}, sequence=sequence, host=host, **fields)
    return wire.pack(replace(made, cargo={"steps": list(pieces)}))


def test_a_batch_brings_the_steps_of_its_host():
    take(packed(*blocks(0, 1, 2)), NOW)

    run, rank = Run.objects.get(), RunRank.objects.get()
    assert (run.name, run.user, run.owner, run.group, run.world_size) == ("llm", "root", "root", "root", 2)
    assert run.description == {"dtype": "bf16"}
    assert (rank.host.name, rank.attempt, rank.pid, rank.n_steps, rank.samples, rank.seconds) == (
        "gpu-a01",
        0,
        77,
        3,
        24,
        1.5,
    )
    assert read.steps(run).number.tolist() == [0, 1, 2]
    assert run.is_running(NOW)
    assert not run.is_running(NOW + timedelta(minutes=5, seconds=1))


def test_a_batch_that_comes_again_brings_nothing():
    body = packed(*blocks(0, 1))
    take(body, NOW)
    take(body, NOW)
    take(packed(*blocks(2), sequence=1), NOW)

    assert read.steps(Run.objects.get()).number.tolist() == [0, 1, 2]
    assert RunRank.objects.get().n_frames == 3


def test_batches_in_any_order_come_to_the_same():
    bodies = [packed(*blocks(n, n + 1), sequence=n) for n in (4, 0, 2)]
    for body in bodies:
        take(body, NOW)

    rank = RunRank.objects.get()
    assert (rank.n_frames, rank.newest_sequence, rank.n_lost) == (6, 5, 0)
    assert sorted(read.steps(rank.run).number.tolist()) == [0, 1, 2, 3, 4, 5]


def test_frames_that_never_came_are_counted_as_lost():
    take(packed(*blocks(0, 3, dropped=1)), NOW)

    assert (RunRank.objects.get().n_lost, RunRank.objects.get().n_dropped) == (2, 1)


def test_a_process_that_starts_again_goes_on_in_its_run_as_the_next_attempt():
    take(packed(*blocks(0, 1)), NOW)
    take(packed(*blocks(0, 1, process="b" * 32, restart=1), sequence=1), NOW)
    take(packed(*blocks(2), sequence=2), NOW)

    run = Run.objects.get()
    assert run.restarts == 1
    assert list(run.ranks.values_list("attempt", "n_frames", "restart")) == [(0, 3, 0), (1, 2, 1)]
    assert sorted(read.steps(run).attempt.tolist()) == [0, 0, 0, 1, 1]


def test_the_ranks_of_a_run_on_two_hosts_are_one_run():
    take(packed(*blocks(0)), NOW)
    take(packed(*blocks(0, rank=1, process="b" * 32), host="gpu-a02", device=replace(DEVICE, uuid="GPU-9")), NOW)

    assert {(rank.rank, rank.host.name) for rank in Run.objects.get().ranks.all()} == {(0, "gpu-a01"), (1, "gpu-a02")}


def test_another_users_loop_does_not_get_into_a_run_of_the_same_name():
    take(packed(*blocks(0)), NOW)
    take(packed(*blocks(0, uid=987_654, process="b" * 32, owner="root"), sequence=1), NOW)

    assert set(Run.objects.values_list("user", "owner")) == {("root", "root"), ("uid 987654", "root")}


def test_two_runs_may_compute_on_one_device():
    device = make_device(enrolled())
    for number, launch in enumerate(("one", "two")):
        take(packed(*blocks(0, launch=launch, process=str(number) * 32, devices=[device.uuid]), sequence=number), NOW)

    assert [rank.device for rank in RunRank.objects.all()] == [device, device]
    assert Run.objects.count() == 2


@pytest.mark.parametrize(("name", "n_found"), [("GPU", 1), ("0", 1), ("1", 0), ("GPU-of-another", 0)])
def test_devices_are_those_of_the_host_by_uuid_its_beginning_or_index(name, n_found):
    device = make_device(enrolled())
    take(packed(*blocks(0, devices=[name]), device=replace(DEVICE, uuid=device.uuid)), NOW)

    assert len(RunRank.objects.get().device_uuids) == n_found


def test_a_run_whose_steps_are_long_is_not_over_between_two():
    take(packed(*blocks(0, nanoseconds=900 * SECOND)), NOW)

    assert Run.objects.get().is_running(NOW + timedelta(minutes=45))


BLOCK = msgpack.unpackb(blocks(0, 1)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"v": 9},
        {"n": 3},
        {"n": 10**9},
        {"head": b"{"},
        {"head": b'{"v":2,"run":"a\\ud800","launch":"l","process":"' + b"a" * 32 + b'"}'},
        {"head": b'{"v":2,"run":"","launch":"l","process":"' + b"a" * 32 + b'"}'},
        {"head": b'{"v":2,"run":"a","launch":"../l","process":"' + b"a" * 32 + b'"}'},
        {"head": b'{"v":2,"run":"a","launch":"l","process":"x"}'},
        {"head": b'{"v":2,"run":"a","launch":"l","rank":-1,"process":"' + b"a" * 32 + b'"}'},
        {"head": b'{"v":2,"run":"a","launch":"l","rank":1048576,"process":"' + b"a" * 32 + b'"}'},
        {"from": [1]},
        {"columns": [[8, b"\xff" * 16]] * 8},
        {"columns": BLOCK["columns"][:-1]},
        {"numbers": [b"short"] * 3},
        {"phases": [[0, b""]]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_block_that_cannot_be_read_is_left_out_and_takes_nothing_with_it(change, caplog):
    foreign = msgpack.packb(BLOCK | change)

    assert take(packed(foreign, *blocks(5)), NOW)

    assert read.steps(Run.objects.get()).number.tolist() == [5]
    assert "1 steps or blocks of them were left out: a block of gpu-a01" in caplog.text


def test_what_a_loop_says_of_itself_is_stored_as_far_as_a_database_can():
    about = {"dtype": "bf\x0016", "model": {"layers": 32, "width": float("inf")}}
    take(packed(*blocks(0, about=about, owner="a\x00da")), NOW)

    assert Run.objects.get().description == {"dtype": "bf16", "model": {"layers": 32, "width": None}}
    assert Run.objects.get().owner == "ada"


def test_steps_of_a_batch_that_is_set_aside_wait_with_it():
    take(packed(*blocks(0), at_ms=NOW_MS + 3_600_000), NOW)

    assert SetAside.objects.count() == 1
    assert not Run.objects.exists()


def test_a_forged_batch_brings_no_step():
    host = Host.objects.create(name="gpu-a01", public_key=bytes(32))
    sealed = envelope.seal(KEY, INGEST_TASK, host.name, packed(*blocks(0)))

    ingest_group([sealed], NOW)

    assert not Run.objects.exists()
    assert Event.objects.get().kind == EventKind.FORGED_MESSAGE
    assert authentic.admit_all([sealed], INGEST_TASK, NOW) == []


def test_a_loss_of_which_no_sum_can_be_made_is_none():
    hold = StepHold()
    records = [
        Record(n, 0, n, HERE.monotonic_ns, SECOND, UNTOLD_NS, 8, NAN, loss, 0, 0)
        for n, loss in enumerate((1.7e308, 2.5))
    ]
    hold.put([Frame(datagram.put(HEAD, record), 77, 0, 0) for record in records], HERE)
    take(packed(*hold.take(MAX_CARGO_BYTES)), NOW)

    np.testing.assert_array_equal(read.steps(Run.objects.get()).loss, [NAN, 2.5])
