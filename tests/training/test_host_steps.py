"""Datagrams of the step listener on their way to the server, as blocks that batches take along."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.agent.steps import Frame, Moment
from telemetry.message.wire import MAX_CARGO_BYTES
from training.host import steps
from training.host.steps import StepHold
from training.steps import blocks as step_blocks
from training.steps import datagram
from training.steps.datagram import UNTOLD_NS, WARM_UP, Record

SECOND = 10**9
NOW = Moment(1_000 * SECOND, 1_700_000_000 * SECOND)
HEAD = {"run": "llm", "launch": "a1", "process": "0" * 32, "rank": 3, "phases": ["data"]}
NAN = float("nan")
RECORD = Record(0, 0, 7, NOW.monotonic_ns - SECOND, SECOND // 2, UNTOLD_NS, 8.0, NAN, 2.5, 0, 0, (SECOND // 10,))


def frame(record=RECORD, head=HEAD, *, uid=0, pid=42):
    return Frame(datagram.put(head, record), pid, uid, 0)


def blocks(hold, max_bytes=MAX_CARGO_BYTES):
    return [step_blocks.read(piece) for piece in hold.take(max_bytes)]


@pytest.fixture
def hold():
    return StepHold()


def test_the_steps_of_a_process_become_one_block(hold):
    hold.put([frame(), frame(RECORD._replace(sequence=1, number=8, loss=NAN, dropped=2))], NOW)

    (block,) = blocks(hold)
    assert (block.teller.run, block.teller.rank, block.teller.user, block.teller.pid) == ("llm", 3, "root", 42)
    assert (block.steps.number.tolist(), block.newest_sequence, block.n_dropped) == ([7, 8], 1, 2)
    assert block.steps.loss.tolist()[0] == 2.5
    assert block.steps.phases["data"].tolist() == [0.1, 0.1]
    assert blocks(hold) == []


def test_its_time_is_by_the_wall_clock_of_when_it_came(hold):
    hold.put([frame()], NOW)
    (block,) = blocks(hold)
    assert block.steps.ended_ms.tolist() == [(NOW.utc_ns - SECOND) / 1e6]


def test_a_wall_clock_that_was_set_holds_for_what_comes_after(hold):
    hold.put([frame()], NOW)
    later = Moment(NOW.monotonic_ns + SECOND, NOW.utc_ns - 3600 * SECOND)
    hold.put([frame(RECORD._replace(ended_ns=later.monotonic_ns))], later)
    (block,) = blocks(hold)
    assert block.steps.ended_ms.tolist() == [later.utc_ns / 1e6, (NOW.utc_ns - SECOND) / 1e6]


@pytest.mark.parametrize("ended_ns", [NOW.monotonic_ns + 1, NOW.monotonic_ns - 61 * SECOND, 0])
def test_a_step_timed_on_another_clock_ended_when_it_came(hold, ended_ns):
    hold.put([frame(RECORD._replace(ended_ns=ended_ns))], NOW)
    (block,) = blocks(hold)
    assert block.steps.ended_ms.tolist() == [NOW.utc_ns / 1e6]


def test_two_users_never_share_a_block(hold):
    hold.put([frame(uid=0), frame(uid=987_654)], NOW)
    assert {block.teller.user for block in blocks(hold)} == {"root", "uid 987654"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json\n" + bytes(72),
        b"[" * 8_000 + b"\n",
        b'{"v": 1}\n' + bytes(72),
        b'{"v": 2, "phases": "data"}\n' + bytes(72),
        b'{"v": 2, "phases": ["a", "a"]}\n' + bytes(88),
        b'{"v": 2, "phases": ["\\u0000"]}\n' + bytes(80),
        b'{"v": 2}\n' + bytes(71),
        b'{"v": 2}\n' + datagram.put_record(RECORD._replace(nanoseconds=0, phases_ns=())),
        b'{"v": 2}\n' + datagram.put_record(RECORD._replace(number=2**62, phases_ns=())),
        b'{"run": "llm", "launch": "a1", "number": 3, "ended_ms": 1, "seconds": 0.5, "v": 1}',
    ],
)
def test_a_datagram_that_is_no_step_is_counted_and_left_out(hold, raw):
    assert hold.put([Frame(raw, 1, 0, 0), frame()], NOW) == 1
    assert hold.invalid == 1
    assert len(blocks(hold)) == 1


def test_a_batch_takes_no_more_than_it_may_and_the_rest_waits(hold):
    hold.put([frame(RECORD._replace(sequence=number)) for number in range(1_000)], NOW)

    pieces = []
    while taken := hold.take(20_000):
        assert sum(map(len, taken)) <= 20_000
        pieces += taken
    found = [step_blocks.read(piece) for piece in pieces]
    assert len(pieces) > 1
    assert sum(len(block.steps) for block in found) == 1_000
    assert found[-1].newest_sequence == 999


def test_of_more_steps_than_it_can_hold_the_latest_are_refused(hold, monkeypatch):
    monkeypatch.setattr(steps, "MAX_HELD", 3)
    assert hold.put([frame()] * 5, NOW) == 2
    assert (hold.n_dropped, len(blocks(hold)[0].steps)) == (2, 3)


def test_it_complains_once_a_minute_however_many_come(caplog):
    clock = iter([0.0, 1.0, 59.0, 61.0])
    hold = StepHold(monotonic=lambda: next(clock))
    with caplog.at_level(logging.WARNING):
        hold.put([Frame(b"{}", 1, 0, 0)] * 4, NOW)
    assert [record.args[0] for record in caplog.records] == [1, 4]


RECORDS = st.builds(
    Record,
    sequence=st.integers(0, 2**62 - 1),
    dropped=st.integers(0, 2**62 - 1),
    number=st.integers(0, 2**62 - 1),
    ended_ns=st.integers(NOW.monotonic_ns - 50 * SECOND, NOW.monotonic_ns),
    nanoseconds=st.integers(100, 10**16),
    compute_ns=st.one_of(st.just(UNTOLD_NS), st.integers(0, 10**16)),
    samples=st.one_of(st.just(NAN), st.floats(0, 1e9)),
    tokens=st.one_of(st.just(NAN), st.floats(0, 1e9)),
    loss=st.one_of(st.just(NAN), st.floats(-1e9, 1e9)),
    kind=st.integers(0, 3),
    flags=st.sampled_from([0, WARM_UP]),
    phases_ns=st.tuples(st.one_of(st.just(UNTOLD_NS), st.integers(0, 10**16))),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=30))
def test_what_a_loop_told_comes_to_the_server_within_a_tick(records):
    hold = StepHold()
    assert hold.put([frame(record) for record in records], NOW) == 0

    (block,) = blocks(hold)
    (block_steps, told) = (rows_of(block.steps), [expected(record) for record in records])
    assert sorted(block_steps) == sorted(told)


def rows_of(found):
    """Return each step as words, NaN among them."""
    durations = (found.seconds, found.compute_seconds, found.phases["data"])
    told = (
        found.number,
        *durations,
        found.samples,
        found.tokens,
        found.loss,
        found.kind,
        found.is_warmup,
        found.ended_ms,
    )
    return [tuple(repr(column[place].item()) for column in told) for place in range(len(found))]


def expected(record):
    durations = [seconds_of(each) for each in (record.nanoseconds, record.compute_ns, *record.phases_ns)]
    ended_ms = (NOW.utc_ns - NOW.monotonic_ns + record.ended_ns) // 1000 / 1000
    told = (
        record.number,
        *durations,
        record.samples,
        record.tokens,
        record.loss,
        record.kind,
        bool(record.flags),
        ended_ms,
    )
    return tuple(map(repr, told))


def seconds_of(nanoseconds):
    """Return a duration as it travels: in whole tenths of a microsecond."""
    return NAN if nanoseconds < 0 else (nanoseconds + 50) // 100 / 10_000_000
