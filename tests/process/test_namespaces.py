"""Two machines on a network of their own join a server by the command that `add_host` prints, over a broker with TLS.

The command runs word for word; only the wheel's dependencies come from this test's own environment, not from an index.
"""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.certificates import Authority
from tests.namespaces import Machine, Network, network
from tests.ports import free_port
from tests.process.traces import wait_until
from tests.servers import redis
from tests.stack import Stack, start_stack


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    with network(2) as made:
        yield made


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def stack(net, authority, tmp_path_factory) -> Iterator[Stack]:
    directory, bind = tmp_path_factory.mktemp("server"), f"{net.address}:{free_port()}"
    with redis(directory, authority.server(net.address), net.address) as broker_url:
        settings = {
            "STEPWATT_BIND": bind,
            "STEPWATT_PUBLIC_URL": f"http://{bind}",
            "STEPWATT_BROKER_URL": broker_url,
            "STEPWATT_BROKER_CA": str(authority.file),
        }
        with start_stack(directory, **settings) as running:
            yield running


class BareHost:
    """A machine with Python and a home, nothing else."""

    def __init__(self, machine: Machine, directory: Path, authority: Authority) -> None:
        self.machine = machine
        self._authority = authority
        self.home = directory / "home"
        self.home.mkdir(parents=True)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "STEPWATT_DATA_DIR": str(self.home / "data"),
            "STEPWATT_BATCH_SECONDS": "1",
            "STEPWATT_BROKER_CA": str(self._authority.file),
            "STEPWATT_JOB_PYTHON": sys.executable,  # it has torch, the agent needs none
            "PIP_NO_DEPS": "1",
            "PYTHONPATH": sysconfig.get_path("purelib"),
        }

    def paste(self, command: str) -> subprocess.CompletedProcess[str]:
        shell = self.machine.command("sh", "-c", command)
        return subprocess.run(
            shell, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, timeout=480
        )

    def run(self) -> subprocess.Popen[bytes]:
        agent = self.machine.command(self.home / "stepwatt-agent" / "bin" / "stepwatt-agent", "run")
        with (self.home / "log").open("wb") as log:
            return subprocess.Popen(agent, cwd=self.home, env=self.environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def hosts(stack, net, authority, tmp_path_factory) -> Iterator[dict[str, BareHost]]:
    """Both machines, joined and running."""
    with ExitStack() as running:
        hosts = {}
        for number, machine in enumerate(net.machines, start=1):
            host = hosts[f"node-{number}"] = BareHost(machine, tmp_path_factory.mktemp("host"), authority)
            added = stack.manage("add_host", f"node-{number}", "--cluster", "namespaces")
            pasted = host.paste(added.stdout)
            assert pasted.returncode == 0, added.stderr + pasted.stderr
            agent = host.run()
            running.callback(agent.wait, timeout=60)
            running.callback(agent.terminate)
        yield hosts


@pytest.fixture(scope="module")
def client(stack) -> Iterator[httpx.Client]:
    client = stack.signed_in()
    yield client
    client.close()


def test_both_show_up_live(client, hosts):
    def live() -> set[str]:
        items = client.get("/api/v1/hosts?cluster=namespaces").json()["items"]
        return {item["name"] for item in items if item["health"] in {"ok", "warn"} and item["device_count"]}

    wait_until(lambda: live() == set(hosts), 240, "both hosts' samples")


def test_the_agent_on_them_is_the_wheels(hosts):
    for host in hosts.values():
        asked = host.paste(
            'cd / && ~/stepwatt-agent/bin/python -c "import telemetry.agent, sys; print(telemetry.agent.__file__)"'
        )
        assert asked.stdout.startswith(str(host.home / "stepwatt-agent")), asked.stderr


def test_machines_with_ids_of_their_own_are_no_clones(client, hosts):
    kinds = [item["kind"] for item in client.get("/api/v1/events?limit=1000").json()["items"]]

    assert kinds.count("host_joined") == 3  # with the server's own
    assert "cloned_machine" not in kinds


def test_an_order_reaches_a_machine_that_only_sees_the_broker(stack, client, hosts):
    wait_until(lambda: client.get("/api/v1/hosts/node-1").json()["devices"], 240, "the device")

    launched = stack.manage("reference", "gpt-train", "--host", "node-1", "--param", "steps=5", "--wait")

    assert launched.returncode == 0, launched.stdout + launched.stderr


def test_without_the_brokers_authority_nothing_gets_through(stack, net, authority, hosts, tmp_path):
    """The second machine again, under another name, which is not told whom to trust."""
    host = BareHost(net.machines[1], tmp_path, Authority(tmp_path, "somebody"))
    added = stack.manage("add_host", "node-3")
    assert host.paste(added.stdout).returncode == 0

    agent = host.run()
    try:
        wait_until(lambda: "certificate verify failed" in (host.home / "log").read_text(), 180, "the refusal")
    finally:
        agent.terminate()
        agent.wait(timeout=60)
