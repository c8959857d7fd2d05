"""The recorded training of GPT-3 on 512 H100 with its nodes' power at the wall, from the files to the run's figures."""

import lzma
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import timezone

from telemetry import rollups
from training.models import Run
from training.runs.figures import figures
from training.runs.goodput import Spent

DATA = Path(__file__).parent.parent / "data" / "mlperf_gpt3_64xh100"
PUBLISHED_KWH = 415.22

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(tmp_path):
    """The run as it is imported, with each fifth of its power readings (one each ten seconds)."""
    header, *rows = lzma.decompress((DATA / "node_power_ac.csv.xz").read_bytes()).decode().splitlines()
    by_node = {}
    for row in rows:
        by_node.setdefault(row.split(",")[1], []).append(row)
    power = tmp_path / "power.csv"
    power.write_text("\n".join([header, *(row for of_node in by_node.values() for row in of_node[::5])]))
    call_command("import_telemetry", power, "--cluster", "mlperf")
    call_command(
        "import_steps",
        DATA / "step_times.csv",
        run="gpt3-175b",
        cluster="mlperf",
        column=["tokens_done=tokens:cumulative"],
    )
    rollups.roll_up(60, timezone.now())
    return Run.objects.get()


def test_gpt_3s_steps_tokens_joules_and_evaluations_come_out_as_recorded(run):
    start_ms, end_ms = (int(at.timestamp() * 1000) for at in (run.started_at, run.last_step_at))
    found = figures(run, start_ms, end_ms + 1)
    assert (found.step_times.n_steps, round(found.step_times.median, 2)) == (288, 10.64)
    assert found.tokens_per_second.value == pytest.approx(287 * 4_194_304 / 3411.774, rel=1e-4)
    assert len(found.energy.devices) == 64
    assert found.joules.value == pytest.approx(PUBLISHED_KWH * 3.6e6, rel=2e-3)
    assert found.joules_per_token.value == pytest.approx(1.242, abs=0.005)
    assert found.goodput.seconds[Spent.EVALUATION] == pytest.approx(302.9, abs=0.1)
    assert sum(span.spent is Spent.EVALUATION for span in found.goodput.spans) > 0
    assert found.goodput.share == pytest.approx(0.897, abs=0.001)
