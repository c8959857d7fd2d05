"""A simulated GPU that is divided tells what NVML tells of one with MIG instances."""

import pytest

from telemetry.catalog import AbsentReason
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.fleet import Fleet, Shape
from telemetry.simulation.load import Inference
from telemetry.simulation.machine import Machine
from tests.telemetry.test_simulation import START, Watched


@pytest.fixture
def serving():
    """A host that serves, on two GPUs of which the second has two instances."""
    watched = Watched(Inference("1"))
    watched.machine = Machine("sim-1", BOARDS["h100"], 2, Inference("1"), lambda: watched.now, "1", has_instances=True)
    watched.machine.open()
    watched.tick()
    return watched


def test_its_instances_follow_their_board_with_half_of_its_memory_each(serving):
    whole, board, *instances = (source.device for source in serving.machine.sources()[:-2])

    assert [(each.parent, each.profile, each.index) for each in instances] == [
        (board.uuid, "3g.40gb", 1), (board.uuid, "3g.40gb", 2)
    ]  # fmt: skip
    assert len({whole.uuid, board.uuid, *(each.uuid for each in instances)}) == 4
    told = serving.gpu[1]
    for instance in serving.gpu[2:]:
        assert instance["memory_total_bytes"] == told["memory_total_bytes"] / 2
        assert 0 < instance["sm_active_ratio"] <= 1
        assert "power_draw_watts" not in instance


def test_utilisation_is_refused_on_the_board_and_not_on_the_whole_gpu(serving):
    whole, board = serving.gpu[:2]

    assert board["gpu_utilization_ratio"] is AbsentReason.NOT_SUPPORTED
    assert board["power_draw_watts"] > 0
    assert 0 < whole["gpu_utilization_ratio"] <= 1


def test_its_processes_are_the_instances(serving):
    _, board, one, other = serving.machine.sources()[:4]

    assert [process.pid for process in board.processes()] == [one.processes()[0].pid, other.processes()[0].pid]


def test_what_its_board_is_the_instances_are_too(serving):
    serving.suffer(FaultKind.LOST, device=1)
    serving.tick()

    assert [readings["memory_used_bytes"] for readings in serving.gpu[1:]] == [AbsentReason.GPU_IS_LOST] * 3


def test_only_hosts_that_serve_have_instances():
    fleet = Fleet(Shape(10, 2, has_instances=True), lambda: START, lambda parcel: None)
    for machine in fleet.machines:
        machine.open()

    divided = [len(machine.sources()) == 2 + 2 + 2 for machine in fleet.machines]
    assert divided == [isinstance(machine.task, Inference) for machine in fleet.machines]
    assert any(divided)
