"""Bodies of rollups are read in parts on SQLite and whole on PostgreSQL: what is read of them is the same."""

import sqlite3
from itertools import permutations

import numpy as np
import pytest
from django.core.management import call_command

from fleet.environment.databases import configured
from telemetry import vendor_sql
from telemetry.models import Rollup
from telemetry.store import rolled, statistics
from telemetry.store.statistics import ENERGY, Field
from tests.databases import connection_with, default_database
from tests.factories import make_host

T0, MINUTE = 1_800_000_000_000, 60_000


def keep(host, start_ms, n, joules):
    keys = np.array([(ENERGY, Field.MEASURED_MILLIJOULES, 0, 7), (10, Field.COUNT, 0, 7), (10, Field.SUM, 0, 7)])
    found = statistics.ordered(keys, np.full((3, n), joules, np.int64), start_ms, MINUTE)
    encode = statistics.encode_fresh if n == 1 else statistics.encode_joined
    Rollup.objects.create(host=host, step_seconds=60, start_ms=start_ms, n_buckets=n, body=encode(found))


def read(hosts, numbers):
    tables = rolled.of_hosts([host.pk for host in hosts], 60, T0, T0 + 60 * MINUTE, numbers)
    return {host: (table.keys.table.tolist(), table.values.tolist()) for host, table in tables.items()}


def test_a_metric_is_the_same_alone_and_among_all(each_database):
    hosts = [make_host(), make_host("gpu-a02")]
    keep(hosts[0], T0, 30, 5), keep(hosts[0], T0 + 2 * MINUTE, 1, 6), keep(hosts[1], T0, 2, 7)

    alone, among = read(hosts, [ENERGY]), read(hosts, None)

    assert alone[hosts[0].pk] == ([[ENERGY, 8, 0, 7]], [[5, 5, 6] + [5] * 27])
    assert {host: (keys[:1], values[:1]) for host, (keys, values) in among.items()} == alone


@pytest.fixture
def file(tmp_path, django_db_blocker):
    wrapper = connection_with(configured("", tmp_path))
    with django_db_blocker.unblock(), default_database(wrapper):
        call_command("migrate", verbosity=0, interactive=False)
        yield tmp_path / "stepwatt.sqlite3"
        wrapper.close()


def test_rows_that_change_places_meanwhile_are_read_as_they_were(file):
    hosts = [make_host(), make_host("gpu-a02")]
    keep(hosts[0], T0, 2, 5), keep(hosts[1], T0, 2, 7)
    ids = [host.pk for host in hosts]
    rows = vendor_sql.rollup_bodies("telemetry_rollup", "host_id", ids, 60, (T0 - 1, T0 + 1), in_parts=True)

    first = next(rows)[0]
    with sqlite3.connect(file) as other:
        other.execute("UPDATE telemetry_rollup SET body = x'00'")
        other.execute("DELETE FROM telemetry_rollup WHERE host_id = ?", [ids[0]])
    (second,) = [(pk, statistics.decode(body, start_ms, MINUTE).values[0].tolist()) for pk, start_ms, _, body in rows]

    assert (first, second) == (ids[0], (ids[1], [7, 7]))
    assert Rollup.objects.count() == 1


def parts_of(*lengths, first=1):
    """Return statistics that follow each other without a bucket between; the values of each are one more than the last one's."""
    keys, begins = np.array([(10, Field.COUNT, 0, 7), (10, Field.SUM, 0, 7)]), [0, *np.cumsum(lengths).tolist()]
    return [
        statistics.ordered(keys, np.full((2, n), value, np.int64), T0 + at * MINUTE, MINUTE)
        for value, (at, n) in enumerate(zip(begins[:-1], lengths, strict=True), first)
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_of_a_time_are_put_together_in_any_order(order):
    parts = parts_of(3, 2, 1)

    table = rolled.stacked([parts[each] for each in order])

    assert table.starts_ms.tolist() == [T0 + at * MINUTE for at in range(6)]
    assert table.values.tolist() == [[1, 1, 1, 2, 2, 3]] * 2


def test_a_bucket_that_stands_twice_is_taken_from_the_fresh_row():
    fresh = parts_of(1, 1, first=5)[1:]

    table = rolled.stacked([*parts_of(4), *fresh])

    assert table.starts_ms.tolist() == [T0 + at * MINUTE for at in range(4)]
    assert table.values.tolist() == [[1, 6, 1, 1]] * 2
