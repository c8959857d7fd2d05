"""`stepwatt-agent release` and `resume` beside a running agent, over the stubbed driver."""

import os
import subprocess
import sys

from redis import RedisError

from tests.ports import free_port
from tests.process.test_agent_alone import agent, broker, taken
from tests.process.traces import wait_until
from tests.stack import ROOT


def command(directory, *arguments):
    environment = os.environ | {"STEPWATT_DATA_DIR": str(directory)}
    return subprocess.run(
        [sys.executable, "-m", "telemetry.agent", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_running_agent_lets_go_and_takes_up_again(tmp_path, nvml_stub):
    with agent(tmp_path, port := free_port(), **nvml_stub.environment()), broker(tmp_path, port):
        wait_until(lambda: has_gpus(port), 180, "a batch with the GPUs")

        released, resumed = command(tmp_path, "release", "--minutes", "5"), command(tmp_path, "resume")

    assert released.stdout.startswith("nvml: let go of; until ")
    assert resumed.stdout == "nvml: taken up; asked by a command on the host\n"
    assert (released.returncode, resumed.returncode) == (0, 0)


def test_without_an_agent_there_is_nothing_to_let_go_of(tmp_path):
    result = command(tmp_path, "release")

    assert result.returncode == 1
    assert result.stderr.startswith("stepwatt-agent: no agent runs in ")
    assert len(result.stderr.splitlines()) == 1


def has_gpus(port):
    try:
        return any(device.kind == "nvidia" for batch in taken(port) for device in batch.devices)
    except RedisError:  # no broker yet
        return False
