"""Letting go of the driver for a while: by a command on the host, by a sealed order, and over a restart."""

import json
import time

import msgpack
import pynvml
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telemetry.agent import control, tasks
from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.agent.collector import Collector
from telemetry.agent.control import ControlSocket
from telemetry.agent.drivers import FILE, RELEASE_TASK, RESUME_TASK, DriverControl
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.orders import OrderDesk
from telemetry.agent.sampler import Sampler
from telemetry.catalog import AbsentReason
from telemetry.message import notices
from telemetry.message.envelope import seal_order
from telemetry.message.notices import NoticeKind
from tests.telemetry.nvml_devices import ANSWERING_CALLS, FIELDS
from tests.telemetry.steered import Hang, SteeredBackend, wait_for

HOST = "gpu-a01"
KEY = Ed25519PrivateKey.generate()


class Agent:
    """What of an agent has to do with letting go; `started` is a life of it."""

    def __init__(self, directory, backend):
        self.directory, self.backend = directory, backend
        self.told: list[notices.Notice] = []
        self.now = time.time
        self.sampler = Sampler(Collector([backend], 0.05), 0.05, patience=0.3)
        orders = OrderDesk(directory, HOST, KEY.public_key().public_bytes_raw())
        self.drivers = DriverControl(HOST, directory, self.sampler, orders, self.submit, self.clock, confirm_seconds=2)
        self.control = ControlSocket(directory, self.drivers.ask)

    def clock(self):
        return self.now()

    def submit(self, task, payload, **_):
        assert task == notices.NOTICE_TASK
        self.told.append(notices.unpack(payload))

    def start(self):
        for part in (self.drivers, self.sampler, self.control):
            part.start()
        return self

    def stop(self):
        for part in (self.control, self.sampler, self.drivers):
            part.stop()

    def readings(self):
        """Return the readings of a tick that begins from now on."""
        self.sampler.take()
        found = []
        wait_for(lambda: found.extend(self.sampler.take()) or len(found) > 1)
        return found[-1].readings

    def kinds(self):
        return [notice.kind for notice in self.told]


@pytest.fixture
def agents():
    """Return a maker of agents that are started, and stopped at the test's end."""
    made = []

    def make(directory, backend):
        made.append(Agent(directory, backend).start())
        return made[-1]

    yield make
    for agent in made:
        agent.stop()


@pytest.fixture
def agent(agents, tmp_path):
    made = agents(tmp_path, SteeredBackend("nvml"))
    wait_for(made.sampler.devices)
    return made


def order(task, body, *, key=KEY, host=HOST):
    return seal_order(key, task, host, msgpack.packb(body), int(time.time() * 1000) + 60_000)


def reasons(readings):
    return {reason for values in readings.values() for reason in values.values()}


def test_released_the_real_driver_is_shut_down_and_not_called_any_more(nvml_stub, agents, tmp_path):
    agent = agents(tmp_path, NvmlBackend(listener=EventListener(wait_seconds=0.2)))
    wait_for(lambda: len(agent.sampler.devices()) == 8)
    agent.drivers.ask("release", 30)
    calls_before = {name: nvml_stub.calls(name) for name in (*ANSWERING_CALLS, *FIELDS)}

    readings = agent.readings()

    assert len(readings) == 8
    assert reasons(readings) == {AbsentReason.RELEASED}
    assert {name: nvml_stub.calls(name) for name in calls_before} == calls_before
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def test_resumed_the_real_driver_is_read_again(nvml_stub, agents, tmp_path):
    agent = agents(tmp_path, NvmlBackend(listener=EventListener(wait_seconds=0.2)))
    wait_for(lambda: len(agent.sampler.devices()) == 8)
    agent.drivers.ask("release", 30)
    agent.drivers.ask("resume", 0)

    def is_read() -> bool:  # not at once: a tick that a machine under load begins late tells of some boards only
        readings = agent.readings()
        return len(readings) == 8 and all(type(values.get("power_draw_watts")) is float for values in readings.values())

    wait_for(is_read)
    assert AbsentReason.RELEASED not in reasons(agent.readings())


def test_the_server_is_told_of_each_change(agent):
    agent.drivers.ask("release", 30)
    agent.drivers.ask("resume", 0)

    assert agent.kinds() == [NoticeKind.DRIVER_RELEASED, NoticeKind.DRIVER_RESUMED]
    assert agent.told[0].text.startswith("nvml: let go of; until ")


def test_a_resume_of_what_was_not_let_go_of_changes_nothing(agent):
    assert agent.drivers.ask("resume", 0) == "nothing was let go of"
    assert agent.told == []


def test_it_is_taken_up_again_when_the_time_is_over(agent):
    agent.drivers.ask("release", 0.01)

    wait_for(lambda: agent.kinds() == [NoticeKind.DRIVER_RELEASED, NoticeKind.DRIVER_RESUMED])
    assert reasons(agent.readings()) == {300.0}


def test_a_release_survives_a_restart_until_its_end(agents, agent, tmp_path):
    agent.drivers.ask("release", 30)
    agent.stop()
    second = agents(tmp_path, SteeredBackend("nvml"))

    assert second.readings() == {"GPU-nvml": {"gpu_utilization_ratio": AbsentReason.RELEASED}}
    assert second.backend.opened == 0


def test_a_release_that_ended_while_the_agent_was_away_is_over(agents, agent, tmp_path):
    agent.drivers.ask("release", 30)
    agent.stop()
    path = tmp_path / FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"until": time.time() - 1}))
    second = agents(tmp_path, SteeredBackend("nvml"))

    assert reasons(second.readings()) == {300.0}
    assert not path.exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"until": "x", "seconds": 1, "devices": {"nvml": [{}]}}'])
def test_a_damaged_note_of_a_release_is_left_out(agents, tmp_path, content):
    (tmp_path / FILE).write_bytes(content)

    assert reasons(agents(tmp_path, SteeredBackend("nvml")).readings()) == {300.0}


def test_a_clock_that_is_set_back_does_not_make_it_longer(agent):
    agent.now = lambda: 2_000_000_000.0
    agent.drivers.ask("release", 0.01)
    agent.now = lambda: 1_000_000_000.0

    wait_for(lambda: NoticeKind.DRIVER_RESUMED in agent.kinds())


def test_a_driver_that_does_not_let_go_is_named(agents, tmp_path):
    backend, hang = SteeredBackend("nvml"), Hang()
    backend.close = hang
    agent = agents(tmp_path, backend)
    wait_for(agent.sampler.devices)

    text = agent.drivers.ask("release", 30)
    hang.end()

    assert text.startswith("nvml: a driver call does not return (all of it), it is let go of when it does")


def test_the_command_prints_what_happened(agent, tmp_path, capsys):
    control.release(tmp_path, 30)
    control.resume(tmp_path)

    released, resumed = capsys.readouterr().out.splitlines()
    assert released.startswith("nvml: let go of; until ")
    assert resumed == "nvml: taken up; asked by a command on the host"


def test_without_an_agent_the_command_says_so(tmp_path):
    with pytest.raises(ConfigInvalid, match=f"no agent runs in {tmp_path}"):
        control.release(tmp_path, 30)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), 1e9])
def test_a_time_that_cannot_be_meant_is_refused(tmp_path, minutes):
    with pytest.raises(ConfigInvalid, match="--minutes"):
        control.release(tmp_path, minutes)


def test_the_sockets_path_may_be_long(agents, tmp_path):
    directory = tmp_path / ("a" * 100) / ("b" * 100)
    directory.mkdir(parents=True)
    agents(directory, SteeredBackend("nvml"))

    control.resume(directory)


def test_a_sealed_order_lets_go(agent):
    tasks.attach(agent.drivers)
    tasks.release_driver(order(RELEASE_TASK, {"minutes": 20, "by": "alice"}))

    wait_for(lambda: agent.told)
    assert agent.told[0].text.endswith("(20 min), asked by alice")
    tasks.resume_driver(order(RESUME_TASK, {"minutes": 20, "by": "alice"}))
    wait_for(lambda: len(agent.told) == 2)


@pytest.mark.parametrize(
    "payload",
    [
        b"", "text", None, order(RESUME_TASK, {"minutes": 20}), order(RELEASE_TASK, {"minutes": 20}, host="gpu-b01"),
        order(RELEASE_TASK, {"minutes": 20}, key=Ed25519PrivateKey.generate()), order(RELEASE_TASK, {"minutes": "x"}),
        order(RELEASE_TASK, {"minutes": 0}), order(RELEASE_TASK, {"minutes": 1e9}), order(RELEASE_TASK, [1]),
    ],
)  # fmt: skip
def test_any_other_message_lets_go_of_nothing(agent, payload):
    agent.drivers.take_order(RELEASE_TASK, payload)

    assert agent.drivers.ask("resume", 0) == "nothing was let go of"
    assert NoticeKind.DRIVER_RELEASED not in agent.kinds()
