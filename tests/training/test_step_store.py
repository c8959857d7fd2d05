"""The store of steps: columns to bytes and back, and reading what was written in any split and order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.factories import make_host
from tests.training.stored_steps import columns, put
from training.models import Run, StepChunk
from training.steps import body
from training.steps import columns as step_columns
from training.steps.columns import NAMES, StepColumns
from training.steps.store import read

OFTEN = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
UNKNOWN_OR = st.one_of(st.just(float("nan")), st.floats(-1e12, 1e12))
ROW = st.tuples(
    st.integers(0, 2**31 - 1),  # rank
    st.integers(0, 2**62 - 1),  # number
    st.one_of(st.integers(0, 2_000_000_000_000), st.floats(0, 2e12)),  # ended_ms
    st.floats(1e-7, 1e7),  # seconds
    UNKNOWN_OR, UNKNOWN_OR, UNKNOWN_OR, UNKNOWN_OR,
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 1000),
    UNKNOWN_OR,  # the phase
)  # fmt: skip
ROWS = st.lists(ROW, min_size=1, max_size=40)
ORDER = (
    "rank", "number", "ended_ms", "seconds", "compute_seconds", "samples", "tokens", "loss", "is_warmup", "kind", "attempt",
)  # fmt: skip


def of_rows(rows) -> StepColumns:
    *told, phase = zip(*rows, strict=True)
    return step_columns.of_arrays(dict(zip(ORDER, told, strict=True)), {"data": phase})


def same(one: StepColumns, other: StepColumns) -> None:
    for name in NAMES:
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=getattr(one, name).dtype.kind == "f")
    assert {n for n, v in one.phases.items() if not np.isnan(v).all()} == {
        n for n, v in other.phases.items() if not np.isnan(v).all()
    }
    for name in one.phases.keys() & other.phases.keys():
        assert np.array_equal(one.phases[name], other.phases[name], equal_nan=True)


@OFTEN
@given(ROWS)
def test_what_is_encoded_comes_back(rows):
    steps = of_rows(rows)
    same(body.decode(body.encode(steps)), steps)


@OFTEN
@given(ROWS, st.data())
def test_steps_in_parts_and_any_order_join_to_the_same(rows, data):
    parts = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    shuffled = data.draw(st.permutations(list(zip(rows, parts, strict=True))))
    by_part = [[row for row, part in shuffled if part == number] for number in range(4)]

    joined = step_columns.joined([of_rows(part) for part in by_part if part])

    assert joined.ended_ms.tolist() == sorted(of_rows(rows).ended_ms.tolist())
    assert sorted(zip(joined.ended_ms, joined.rank, joined.number, strict=True)) == sorted(
        zip(of_rows(rows).ended_ms, of_rows(rows).rank, of_rows(rows).number, strict=True)
    )


@given(st.binary(max_size=200))
def test_foreign_bytes_are_no_body(foreign):
    with pytest.raises(body.BodyCorrupt):
        body.decode(foreign)


@pytest.fixture
def run(db):
    return Run.objects.create(name="llm", launch="l1", host=make_host())


def test_a_reader_gets_what_it_asks_for_and_nothing_else(run):
    put(run, columns(1.0, 2.0, loss=[3.0, 2.0], samples=[8, 8], phases={"data": [0.1, 0.2]}))

    found = read.steps(run, columns=("loss",))

    assert found.loss.tolist() == [3.0, 2.0]
    assert np.isnan(found.seconds).all()
    assert np.isnan(found.samples).all()
    assert not found.phases


def test_an_unknown_column_is_an_error(run):
    with pytest.raises(ValueError, match="columns: expected some of"):
        read.steps(run, columns=("speed",))


def test_a_span_has_its_start_and_not_its_end(run):
    put(run, columns(1.0, 1.0, 1.0, first_ms=0))

    assert read.steps(run, 2000, 3000).number.tolist() == [1]
    assert read.steps(run, start_ms=2000).number.tolist() == [1, 2]
    assert len(read.steps(run, 3001, 9000)) == 0


def test_only_the_wanted_ranks_are_read(run):
    for rank in range(4):
        put(run, columns(1.0, rank=[rank]))

    assert sorted(read.steps(run, ranks=[1, 3]).rank) == [1, 3]


def test_a_corrupt_chunk_is_said_and_the_others_are_read(run, caplog):
    put(run, columns(1.0))
    put(run, columns(1.0, number=[7]))
    chunk = StepChunk.objects.earliest("pk")
    StepChunk.objects.filter(pk=chunk.pk).update(body=bytes(chunk.body)[:-1] + b"x")

    assert read.steps(run).number.tolist() == [7]
    assert f"step chunk {chunk.pk} is corrupt" in caplog.text


def test_many_steps_become_chunks_of_a_bounded_size(run):
    many = columns(*[0.001] * 120_001)
    put(run, replace(many, ended_ms=np.arange(120_001.0)))

    assert [chunk.n_steps for chunk in StepChunk.objects.order_by("first_ms")] == [40_000, 40_000, 40_001]
    assert read.steps(run, columns=()).ended_ms.tolist() == list(range(120_001))
