"""The page of a recorded run: MLPerf's GPT-3 on 64 nodes, its steps and the power of its nodes on one axis."""

import io
from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command

from fleet.models import Role
from tests.people import signed_in
from training.models import Run

DATA = Path(__file__).parent.parent / "data" / "mlperf_gpt3_64xh100"

pytestmark = pytest.mark.django_db


@pytest.fixture
def page():
    client = signed_in(Role.VIEWER)
    quiet = {"stdout": io.StringIO(), "stderr": io.StringIO()}
    call_command("import_telemetry", str(DATA / "node_power_ac.csv.xz"), cluster="mlperf", **quiet)
    call_command("import_steps", str(DATA / "step_times.csv"), run="gpt3-175b", cluster="mlperf",
                 column=["tokens_done=tokens:cumulative"], **quiet)  # fmt: skip
    return client, client.get(f"/runs/{Run.objects.get().pk}/")


def column(answer, chart, trace=0):
    return np.array([np.nan if y is None else y for y in answer["charts"][chart]["traces"][trace]["y"]])


def test_the_recorded_run_of_gpt_3_stands_with_its_steps_its_energy_and_its_evaluations(page):
    client, response = page
    tiles = {tile.key: tile for tile in response.context["tiles"]}
    wall = {part.key: part.share for part in response.context["wall_time"].parts}
    facts = {fact.label: fact.words for fact in response.context["facts"]}

    assert tiles["step"].value == pytest.approx(10.64, abs=0.01)  # median of its 288 training steps
    assert (facts["Ranks"], facts["Steps"]) == ("1", "288")  # whose log it is; the 64 nodes are no ranks
    assert facts["Energy"].startswith("41")  # kWh: the submitter published 415.22
    assert tiles["throughput"].value == pytest.approx(287 * 4_194_304 / 3411, rel=0.01)  # tokens over wall time
    assert tiles["joule"].value == pytest.approx(1 / 1.24, rel=0.01)
    assert wall["evaluation"] == pytest.approx(0.089, abs=0.002)
    assert {chart.id for chart in response.context["charts"]} == {
        "fig-step", "fig-throughput", "fig-energy", "fig-token-energy", "fig-node.power_draw_watts"
    }  # fmt: skip
    _on_one_axis(client.get(response.context["arrays"]).json())


def _on_one_axis(answer):
    """Joules per token while it trains, and the nodes' power lower in the evaluations, which are marked on every chart."""
    spans = [shape for shape in answer["charts"]["fig-throughput"]["shapes"] if shape["type"] == "rect"]
    assert len(spans) == 24
    assert all(len(chart["shapes"]) >= 24 for chart in answer["charts"].values())
    assert np.nanmedian(column(answer, "fig-throughput")) == pytest.approx(4_194_304 / 10.64, rel=0.001)
    assert np.nanmedian(column(answer, "fig-token-energy")) == pytest.approx(1.11, abs=0.02)
    power = answer["charts"]["fig-node.power_draw_watts"]
    at, watts = np.array(power["x"]) + 5000, column(answer, "fig-node.power_draw_watts", 1)
    is_evaluation = np.any([(at >= span["x0"]) & (at <= span["x1"]) for span in spans], axis=0)
    assert np.nanmean(watts[is_evaluation]) < 0.95 * np.nanmedian(watts[~is_evaluation])
