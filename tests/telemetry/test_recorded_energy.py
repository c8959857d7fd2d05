"""The recorded power of MLPerf's 64 nodes: its published energy, by node and in sum, in whatever order rows and files come."""

import lzma
import random
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command

from fleet.models import Host
from telemetry import rollups
from telemetry.store import compact, rolled
from telemetry.store.statistics import ENERGY, Field
from tests.people import script

FILE = Path(__file__).parent.parent / "data" / "mlperf_gpt3_64xh100" / "node_power_ac.csv.xz"
PUBLISHED_JOULES = 415.22 * 3.6e6
N_FILES = 2

pytestmark = pytest.mark.django_db


def by_node(rows):
    """Return each node's joules by the trapezoid rule over its rows, which no code of the product has seen."""
    times, watts = {}, {}
    for row in sorted(rows, key=lambda row: int(row.split(",")[0])):
        time_ms, node, power = row.split(",")
        times.setdefault(node, []).append(int(time_ms) / 1000)
        watts.setdefault(node, []).append(float(power))
    return {node: float(np.trapezoid(watts[node], times[node])) for node in times}


def test_the_published_energy_comes_out_by_node_and_in_sum(tmp_path):
    header, *rows = lzma.decompress(FILE.read_bytes()).decode().splitlines()
    shuffled = random.Random(1).sample(rows, len(rows))
    for number in range(N_FILES):
        file = tmp_path / f"{number}.csv"
        file.write_text("\n".join([header, *shuffled[number::N_FILES]]))
        call_command("import_telemetry", file, stdout=StringIO(), stderr=StringIO())
        if number == 0:  # what comes later joins chunks and batches
            compact.compact(datetime.now(UTC), 600)
    rollups.roll_up(600)

    asked = {"start": "2024-05-17T00:00:00Z", "end": "2024-05-18T00:00:00Z", "group_by": "host", "scope": "node"}
    answer = script().get("/api/v1/energy", asked).json()
    assert answer["total"]["joules"] == pytest.approx(PUBLISHED_JOULES, rel=1e-3)
    assert {each["key"]: each["joules"] for each in answer["groups"]} == pytest.approx(by_node(rows), rel=1e-3)

    hosts = list(Host.objects.values_list("pk", flat=True))
    for step in rolled.STEPS:
        tables = rolled.of_hosts(hosts, step, 0, 2**60, (ENERGY,)).values()
        joules = sum(table.values[table.keys.fields == Field.ESTIMATED_MILLIJOULES].sum() for table in tables) / 1000
        assert joules == pytest.approx(PUBLISHED_JOULES, rel=1e-3)
