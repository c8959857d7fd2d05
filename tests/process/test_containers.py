"""Training loops in containers beside a real agent, with the mount that docs/runs.md names and nothing else of the host."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from telemetry.agent.steps import StepListener
from tests.containers import FIRST_OF_MANY, Container
from tests.ports import free_port
from tests.process.test_agent_alone import agent, broker
from tests.process.test_agent_steps import blocks, lost, numbers
from tests.process.traces import wait_until

SHOWN = "/run/stepwatt"
GPU = "GPU-10000000-0000-0000-0000-000000000000"
LAUNCHER = {"SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "0", "SLURM_JOB_ACCOUNT": "physics", "CUDA_VISIBLE_DEVICES": GPU}
LOOP = """
import os, time
import stepwatt
run = stepwatt.run("llm")
print(os.getpid(), os.getuid(), os.listdir("/run"), flush=True)
while True:
    with run.step():
        time.sleep(0.01)
"""
# What root in a container, or another user, may do to the socket and its directory.
TRIES = """
import os, socket, sys
ways = {
    "send": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"x", "/run/stepwatt/steps.sock"),
    "remove": lambda: os.unlink("/run/stepwatt/steps.sock"),
    "replace": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind("/run/stepwatt/other.sock"),
}
for name, way in ways.items():
    try:
        way()
        print(name, "done", flush=True)
    except OSError as error:
        print(name, error.strerror, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Return the directory that a machine's own agent has as /run/stepwatt."""
    (tmp_path / "run").mkdir(mode=0o755)
    return tmp_path / "run"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def port(tmp_path: Path, shared: Path) -> Iterator[int]:
    """Run an agent, and return its broker's port."""
    port = free_port()
    with broker(tmp_path, port), agent(tmp_path, port, STEPWATT_SOCKET=str(shared / "steps.sock")):
        yield port


REMAPPED = f"uid {FIRST_OF_MANY + 1000}", f"gid {FIRST_OF_MANY + 1001}"
KINDS = {
    "docker": (Container(), LAUNCHER, "root", "physics"),
    "docker --user": (Container(54_321, 54_322), {}, "uid 54321", "gid 54322"),
    "docker with userns-remap": (Container(1000, 1001, has_own_users=True), {}, *REMAPPED),
    "kubernetes, runAsUser and fsGroup": (Container(54_321, 0, (54_323,)), LAUNCHER, "uid 54321", "physics"),
}


def seen(container: Container, shared: Path, how: str = "ro", **variables: str) -> Container:
    """Return the container with the mount of the socket's directory."""
    ids = (container.uid, container.gid, container.groups, container.has_own_users)
    return Container(*ids, mounts=((shared, SHOWN, how),), variables=variables)


@pytest.mark.parametrize("kind", KINDS)
def test_a_loop_in_a_container_tells_its_steps_and_the_kernel_whose_they_are(port, shared, root, kind):
    container, variables, user, group = KINDS[kind]
    with seen(container, shared, **variables).running(root, LOOP) as loop:
        assert loop.hear() == f"1 {container.uid} ['stepwatt']"
        wait_until(lambda: numbers(port), 180, "a step")
        teller = blocks(port)[0].teller
        assert (teller.pid, teller.user, teller.group) == (loop.pid, user, group)
        if variables:
            assert (teller.launch, teller.devices) == ("4711-0", (GPU,))


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_loop_in_a_container_goes_on_with_the_agent_that_comes_after(tmp_path, shared, root, end):
    port, settings = free_port(), {"STEPWATT_SOCKET": str(shared / "steps.sock")}
    with broker(tmp_path, port), agent(tmp_path, port, **settings) as first:
        wait_until((shared / "steps.sock").exists, 180, "the step socket")
        with seen(Container(54_321, 54_322), shared).running(root, LOOP) as loop:
            wait_until(lambda: len(numbers(port)) > 50, 180, "the first steps")
            first.send_signal(end)
            first.wait(timeout=60)
            before = max(numbers(port))
            with agent(tmp_path, port, **settings):
                wait_until(lambda: max(numbers(port)) > before + 300, 240, "steps by way of the second agent")
                loop.end()
                most = 0 if end is signal.SIGTERM else 500  # of a killed one, what it had not put on its disk yet
                wait_until(lambda: 0 <= lost(port) <= most, 240, "all that can come")


def test_a_container_that_runs_before_its_agent_finds_it(tmp_path, shared, root):
    port = free_port()
    with seen(Container(), shared).running(root, LOOP) as loop, broker(tmp_path, port):
        loop.hear()
        with agent(tmp_path, port, STEPWATT_SOCKET=str(shared / "steps.sock")):
            wait_until(lambda: numbers(port), 180, "a step")


@pytest.mark.parametrize(
    ("container", "how", "told"),
    [
        (Container(), "ro", ["Read-only file system"] * 2),
        (Container(54_321, 54_322), "rw", ["Permission denied"] * 2),
        (Container(has_own_users=True), "rw", ["Permission denied"] * 2),
        (Container(), "rw", ["done"] * 2),
    ],
    ids=["root, read-only", "another user", "users of its own", "root"],
)
def test_a_container_can_send_and_only_its_root_with_a_writable_mount_can_do_more(shared, root, container, how, told):
    received = []
    listener = StepListener(shared / "steps.sock")
    listener.register(lambda frames, moment: received.extend(frames) or 0)
    listener.start()
    with seen(container, shared, how).running(root, TRIES) as tries:
        said = dict(tries.hear().split(" ", 1) for _ in range(3))
        pid = tries.pid
    listener.stop()

    assert said == {"send": "done", "remove": told[0], "replace": told[1]}
    assert [(frame.raw, frame.pid) for frame in received] == [(b"x", pid)]


def test_an_agent_in_a_pod_without_the_hosts_processes_knows_the_user_and_no_number(tmp_path, shared, root):
    port, settings = free_port(), {"STEPWATT_SOCKET": str(shared / "steps.sock")}
    apart = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    loop = seen(Container(54_321, 54_322), shared)
    with broker(tmp_path, port), agent(tmp_path, port, prefix=apart, **settings), loop.running(root, LOOP):
        wait_until(lambda: numbers(port), 180, "a step")
        teller = blocks(port)[0].teller
        assert (teller.pid, teller.user) == (None, "uid 54321")
