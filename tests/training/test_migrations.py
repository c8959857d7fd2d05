"""What the release before stored of runs is kept by the migrations, on both databases, and comes back with the way back."""

from datetime import UTC, datetime

import pytest

from tests.databases import opened
from tests.telemetry.test_migrations import migrate, model_of
from training.steps import body
from training.steps.columns import StepKind

BEFORE, AFTER = ("training", "0002_step_kinds_and_phases"), ("training", "0005_no_step_rows")
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
ROWS = [
    {"number": 1, "ended_ms": 1_000, "seconds": 0.5, "loss": None, "is_warmup": True},
    {"number": 2, "ended_ms": 2_000, "seconds": 0.25, "samples": 8.0, "phases": {"data": 0.1}},
    {"number": 2, "ended_ms": 2_000, "seconds": 0.3, "samples": 8.0, "rank": 1},
    {"number": 3, "ended_ms": 3_000, "seconds": 1.5, "kind": "validation"},
]


@pytest.fixture(scope="module")
def before(databases, django_db_blocker) -> str:
    """Return the URL of a database with a run and its steps as rows."""
    url = databases.make()
    with django_db_blocker.unblock(), opened(url):
        migrate("fleet", "0009_alert_index")
        migrate(*BEFORE)
        host = model_of("fleet", "0009_alert_index", "Host").objects.create(name="gpu-a01")
        run = model_of(*BEFORE, "Run").objects.create(name="llm", launch="l1", host_id=host.pk, last_step_at=AT)
        model_of(*BEFORE, "Step").objects.bulk_create(model_of(*BEFORE, "Step")(run_id=run.pk, **row) for row in ROWS)
    return url


@pytest.fixture
def run(databases, before, django_db_blocker):
    """Have the test's database be a copy of that."""
    with django_db_blocker.unblock(), opened(databases.make(like=before)):
        yield


def test_rows_of_steps_become_columns_and_ranks(run):
    migrate(*AFTER)

    chunk = model_of(*AFTER, "StepChunk").objects.get()
    steps = body.decode(bytes(chunk.body))
    assert steps.seconds.tolist() == [0.5, 0.25, 0.3, 1.5]
    assert steps.kind.tolist() == [StepKind.TRAIN] * 3 + [StepKind.VALIDATION]
    assert steps.phases["data"][1] == 0.1
    ranks = model_of(*AFTER, "RunRank").objects.order_by("rank").values_list("rank", "n_steps", "samples", "first_ms")
    assert list(ranks) == [(0, 1, 8.0, 500), (1, 1, 8.0, 1_700)]


def test_the_way_back_makes_rows_of_them_again(run):
    before = list(model_of(*BEFORE, "Step").objects.order_by("ended_ms", "rank").values_list(*ROWS[1], "kind", "loss"))
    migrate(*AFTER)
    migrate(*BEFORE)

    after = model_of(*BEFORE, "Step").objects.order_by("ended_ms", "rank").values_list(*ROWS[1], "kind", "loss")
    assert list(after) == before
