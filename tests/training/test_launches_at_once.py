"""Two launches at once on PostgreSQL, where several write at a time: the limits hold for both together."""

import psycopg
import pytest

from training.jobs import admission

OTHER_TURN = 7


@pytest.mark.parametrize(("turn", "is_free"), [(admission.TURN, False), (OTHER_TURN, True)])
def test_while_one_launch_counts_what_runs_another_waits(on_postgresql, postgresql_url, turn, is_free):
    admission.room()

    with psycopg.connect(postgresql_url) as other:
        assert other.execute("SELECT pg_try_advisory_xact_lock(%s)", [turn]).fetchone() == (is_free,)
