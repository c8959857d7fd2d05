"""The page of a run of the simulator: its steps come by the agent's own way, with phases, devices and their telemetry."""

import pytest
from django.utils import timezone

from telemetry.simulation.fleet import Shape
from tests.training.pages import text
from tests.training.test_simulate_command import live
from training.models import Run
from training.runs import measures

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


def test_a_simulated_run_has_an_mfu_that_a_board_can_reach(viewer):
    live(Shape(n_hosts=2, n_gpus=2), span=300.0, speed=1e6)
    measures.measure(timezone.now(), 5.0)
    run = Run.objects.get(name="llm-70b-pretrain")

    page = text(viewer.get(f"/runs/{run.pk}/?range=run"))

    assert run.mfu_ratio is not None
    assert 0.15 < run.mfu_ratio < 0.42
    assert "6N + 12·L·d·T (llm-foundry)" in page
