"""The page of a run of the simulator: its steps come by the agent's own way, with phases, devices and their telemetry."""

import pytest

from telemetry.simulation.fleet import Shape
from tests.training.pages import text
from tests.training.test_simulate_command import live
from training.models import Run

pytestmark = pytest.mark.django_db


def test_a_simulated_run_stands_with_its_phases_its_devices_and_a_mark(viewer):
    live(Shape(n_hosts=2, n_gpus=2), span=150.0, speed=1e6)
    run = Run.objects.order_by("-last_step_at").first()
    page = viewer.get(f"/runs/{run.pk}/?range=run")
    answer = viewer.get(page.context["arrays"]).json()
    shown = text(page)

    assert '<span class="tag">simulated</span>' in page.content.decode()
    assert {row.name for row in page.context["phases"]} >= {"data", "forward", "backward", "communication", "optimizer"}
    assert {"fig-step", "fig-throughput", "fig-power_draw_watts", "fig-sm_clock_hertz"} <= set(answer["charts"])
    assert [y for y in answer["charts"]["fig-power_draw_watts"]["traces"][1]["y"] if y]
    assert "H100" in shown
    assert run.name in text(viewer.get("/runs/"))
