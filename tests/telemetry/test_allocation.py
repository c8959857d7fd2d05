"""Who has a device: what the schedulers and the processes say, which of them counts, and when nobody can say."""

import pytest

from telemetry.agent.backends.allocation import (
    FREE,
    METRIC,
    POD,
    PROCESS,
    SLURM_JOB,
    STALE_SECONDS,
    Allocations,
    judged,
)
from telemetry.agent.backends.allocation_given import Given
from telemetry.agent.backends.allocation_slurm import SlurmFiles
from telemetry.agent.collector import Collector
from telemetry.agent.ticks import Tick
from telemetry.catalog import BY_NAME, AbsentReason
from telemetry.message.wire import DeviceInfo, DeviceKind, DeviceProcess
from tests.telemetry.steered import Clock, SteeredBackend, SteeredSource, wait_for

BOARD = DeviceInfo("GPU-1", DeviceKind.NVIDIA, 0, "H100", "00000000:1B:00.0")
PART = DeviceInfo("MIG-1", DeviceKind.NVIDIA, 3, "H100", "00000000:1B:00.0", parent="GPU-1", profile="1g.10gb")
AMD = DeviceInfo("amd-1", DeviceKind.AMD, 0, "MI300X", "0000:1b:00.0")
NOBODY = Given(frozenset())
SOMEBODY = [DeviceProcess(42, "python train.py", "ada")]


def who(device=BOARD, processes=(), kubernetes=None, slurm=None, *, unhidden=True):
    return judged(device, processes, kubernetes, slurm, unhidden=unhidden)


def test_a_pod_counts_before_a_job_and_a_job_before_a_process():
    taken = Given({"GPU-1"})
    assert [
        who(processes=SOMEBODY, kubernetes=taken, slurm=taken), who(processes=SOMEBODY, slurm=taken), who(processes=SOMEBODY),
    ] == [POD, SLURM_JOB, PROCESS]  # fmt: skip


def test_what_is_given_to_a_pod_that_runs_nothing_is_not_free():
    assert who(processes=[], kubernetes=Given({"GPU-1"}, {"GPU-1"})) == POD


@pytest.mark.parametrize(
    ("process", "code"),
    [
        (DeviceProcess(1, slurm_job="4711"), SLURM_JOB),
        (DeviceProcess(1, container="containerd:3f2a81c09d17 pod:0b1c8f2e"), POD),
        (DeviceProcess(1, container="docker:3f2a81c09d17"), PROCESS),
    ],
)
def test_a_process_tells_whose_it_is(process, code):
    assert who(processes=[DeviceProcess(2), process]) == code


def test_a_device_without_a_process_is_free_where_the_agent_sees_all_of_them():
    assert (who(), who(unhidden=False)) == (FREE, AbsentReason.NO_PERMISSION)


def test_a_scheduler_that_manages_the_device_may_say_that_it_is_free():
    manages, does_not = Given(frozenset(), {"GPU-1"}), Given(frozenset(), {"GPU-2"})
    hidden = AbsentReason.NO_PERMISSION
    assert who(kubernetes=manages, unhidden=False) == who(slurm=NOBODY, unhidden=False) == FREE
    assert who(kubernetes=does_not, unhidden=False) is hidden


@pytest.mark.parametrize(
    "silent", [{"kubernetes": AbsentReason.SCHEDULER_AWAY}, {"slurm": AbsentReason.SCHEDULER_AWAY}]
)
def test_while_a_scheduler_is_silent_nothing_is_free(silent):
    assert (who(**silent), who(processes=SOMEBODY, **silent)) == (AbsentReason.SCHEDULER_AWAY, PROCESS)


def test_a_device_whose_processes_are_not_told_is_not_free():
    assert who(processes=AbsentReason.GPU_IS_LOST) is AbsentReason.GPU_IS_LOST


def test_an_address_names_a_device_and_not_its_parts():
    taken = Given({"0000:1b:00.0", "00000000:1b:00.0"})
    assert [who(device, kubernetes=taken) for device in (AMD, BOARD, PART)] == [POD, POD, FREE]


# Slurm's files -------------------------------------------------------------------------------------------------


def test_the_prologs_files_tell_the_devices_of_jobs(tmp_path):
    for name, content in (("0", "4711 1000\n"), ("GPU-2", "4711 1000\n"), ("MIG-3", "12 0"), ("5", ""), ("6", "0 0")):
        (tmp_path / name).write_text(content)
    (tmp_path / "folder").mkdir()
    assert SlurmFiles(tmp_path).look() == Given({"index 0", "GPU-2", "MIG-3"})


def test_the_index_of_a_file_is_the_boards_and_not_an_instances(tmp_path):
    (tmp_path / "3").write_text("4711 1000\n")
    answer = SlurmFiles(tmp_path).look()
    assert (who(BOARD, slurm=answer), who(PART, slurm=answer)) == (FREE, FREE)


def test_a_host_without_the_directory_has_no_slurm(tmp_path):
    assert SlurmFiles(tmp_path / "gpustat").look() is None


def test_a_directory_that_the_agent_may_not_read_is_no_permission(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    assert SlurmFiles(tmp_path).look() is AbsentReason.NO_PERMISSION


# In the ticks --------------------------------------------------------------------------------------------------


class Steered:
    """A scheduler that says what the test wants."""

    def __init__(self, answer=None):
        self.answer = answer

    def look(self):
        return self.answer


class Agent:
    """The readings of ticks on a clock of its own."""

    def __init__(self, *devices, unhidden=frozenset({DeviceKind.NVIDIA})):
        self.devices, self.clock = devices, Clock()
        self.kubernetes, self.slurm = Steered(), Steered()
        self.allocations = Allocations(self.kubernetes, self.slurm, unhidden, self.clock)

    def tick(self, readings=None, **processes):
        tick = Tick(1, self.clock(), 0.0)
        for device in self.devices:
            tick.put(device, readings or {"power_draw_watts": 300.0})
        tick.processes.update(processes)
        self.allocations.look()
        self.allocations.fill(tick)
        return [tick.readings[device.uuid].get(METRIC) for device in self.devices]


def test_a_reading_stands_until_something_else_is_seen():
    agent = Agent(BOARD)
    assert agent.tick(**{"GPU-1": SOMEBODY}) == [PROCESS]
    assert agent.tick() == [PROCESS]
    assert agent.tick(**{"GPU-1": []}) == [FREE]


def test_processes_that_were_not_looked_at_for_long_say_nothing():
    agent = Agent(BOARD)
    agent.tick(**{"GPU-1": []})
    agent.clock.pass_by(STALE_SECONDS + 1)
    assert agent.tick() == [AbsentReason.NOT_SUPPORTED]
    assert agent.tick({"power_draw_watts": AbsentReason.DRIVER_AWAY}) == [AbsentReason.DRIVER_AWAY]


def test_schedulers_that_were_not_heard_for_long_say_nothing():
    agent = Agent(BOARD)
    agent.kubernetes.answer = Given({"GPU-1"})
    assert agent.tick() == [POD]
    agent.allocations.look = lambda: None
    agent.clock.pass_by(STALE_SECONDS + 1)
    assert agent.tick(**{"GPU-1": []}) == [AbsentReason.SCHEDULER_AWAY]


@pytest.mark.parametrize(("taken", "codes"), [({"MIG-1"}, [POD, POD]), (set(), [FREE, FREE])])
def test_a_board_is_as_its_instances_are(taken, codes):
    agent = Agent(BOARD, PART, unhidden=frozenset())
    agent.kubernetes.answer = Given(taken, {"MIG-1"})
    assert agent.tick(**{"GPU-1": [], "MIG-1": []}) == codes


def test_only_accelerators_are_given_to_somebody():
    cpu = DeviceInfo("cpu-1", DeviceKind.CPU, 0, "EPYC")
    assert Agent(BOARD, cpu).tick(**{"GPU-1": []}) == [FREE, None]


def test_every_reading_of_before_is_kept_and_the_sources_own_map_is_left_alone():
    agent, readings = Agent(BOARD), {"power_draw_watts": 300.0}
    agent.tick(readings, **{"GPU-1": []})
    assert readings == {"power_draw_watts": 300.0}


def test_the_collector_has_it_in_its_full_ticks():
    source, clock = SteeredSource("GPU-1"), Clock()
    source.users = SOMEBODY
    allocations = Allocations(Steered(), Steered(), frozenset(), clock)
    allocations.look()
    collector = Collector([SteeredBackend("a", source)], 1.0, clock, allocations=allocations)
    assert collector.sample(1, clock(), 0.0).readings["GPU-1"] == {"power_draw_watts": 300.0, METRIC: PROCESS}
    assert METRIC not in collector.sample(2, clock(), 0.0, is_full=False).readings.get("GPU-1", {})


def test_the_schedulers_are_looked_at_without_being_asked_to():
    agent = Agent(BOARD)
    agent.allocations.fill(Tick(1, 0.0, 0.0, devices={"GPU-1": BOARD}, readings={"GPU-1": {}}))
    found = []

    def has_looked():
        tick = Tick(2, 0.0, 0.0, devices={"GPU-1": BOARD}, readings={"GPU-1": {}}, processes={"GPU-1": SOMEBODY})
        agent.allocations.fill(tick)
        found.append(tick.readings["GPU-1"].get(METRIC))
        return found[-1] is not None

    wait_for(has_looked)
    assert found[-1] == PROCESS


def test_the_places_of_the_host_are_settings(tmp_path):
    (tmp_path / "0").write_text("4711 1000\n")
    env = {"STEPWATT_SLURM_GPU_DIRECTORY": str(tmp_path), "STEPWATT_POD_RESOURCES_SOCKET": str(tmp_path / "none.sock")}
    allocations = Allocations.of_this_host(env)
    allocations.look()
    tick = Tick(1, 0.0, 0.0, devices={"GPU-1": BOARD}, readings={"GPU-1": {}})
    allocations.fill(tick)
    assert tick.readings["GPU-1"] == {METRIC: SLURM_JOB}


def test_the_codes_are_the_catalogues():
    help_text = BY_NAME[METRIC].help
    assert (FREE, PROCESS, SLURM_JOB, POD) == (0, 1, 2, 3)
    assert all(f"{code} " in help_text for code in (FREE, PROCESS, SLURM_JOB, POD))
