"""A server and two machines, each in a network of its own, with an agent each: what a distributed job needs."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx
import psutil
import pytest

from tests.namespaces import network
from tests.ports import free_port
from tests.process.hosts import joined
from tests.process.traces import wait_until
from tests.servers import redis
from tests.stack import Stack, start_stack, the_one

NAMES = ("node-1", "node-2")
TINY = ("--param", "size=ci", "--param", "batch_size=4", "--param", "warmup_steps=2")
PATIENCE = 180  # for two processes to load torch and meet, beside whatever else the machine does


class Pair:
    """A server, and two machines with an agent each."""

    def __init__(self, stack: Stack, client: httpx.Client, agents: dict[str, int]) -> None:
        self.stack, self.client, self._agents = stack, client, agents

    def launch(self, *options: str) -> dict:
        """Launch gpt-train as one job over both machines; returns what the API says of it."""
        hosts = [part for name in NAMES for part in ("--host", name)]
        done = self.stack.manage("reference", "gpt-train", *hosts, "--distributed", *TINY, *options)
        found = re.search(r"job (\d+): gpt-train", done.stdout)
        assert found, done.stdout + done.stderr
        return self.job(int(found[1]))

    def endless(self) -> int:
        """Launch a job that would run for long, and wait until both ranks are at it; returns its number."""
        params = {"size": "ci", "batch_size": 4, "warmup_steps": 2, "steps": 100_000}
        order = {"workload": "gpt-train", "hosts": [*NAMES], "mode": "distributed", "params": params}
        launched = self.client.post("/api/v1/reference/jobs", json=order).raise_for_status().json()
        number = launched["items"][0]["id"]

        def is_measuring() -> bool:
            found = self.job(number)
            assert found["state"] in {"queued", "starting", "running"}, said(found)
            return [rank["stage"] for rank in found["ranks"]] == ["measure"] * 2

        wait_until(is_measuring, PATIENCE, "both ranks' steps")
        return number

    def ended(self, number: int) -> dict:
        """Wait until no rank of the job runs any more."""
        active = {"queued", "starting", "running"}
        wait_until(
            lambda: not active & {rank["state"] for rank in self.job(number)["ranks"]}, PATIENCE, "the end of all ranks"
        )
        return self.job(number)

    def job(self, number: int) -> dict:
        return self.client.get(f"/api/v1/reference/jobs/{number}").raise_for_status().json()

    def process(self, name: str) -> psutil.Process:
        """Return the process of the reference job that a machine's agent runs."""
        return the_one(psutil.Process(self._agents[name]), "reference/start.py")


@contextmanager
def two_machines(temporary: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield them, running, once the server knows both machines' devices."""
    directory = temporary.mktemp("distributed")
    with ExitStack() as running:
        net = running.enter_context(network(2))
        broker_url = running.enter_context(redis(directory, address=net.address))
        bind = f"{net.address}:{free_port()}"
        settings = {"STEPWATT_BIND": bind, "STEPWATT_PUBLIC_URL": f"http://{bind}", "STEPWATT_BROKER_URL": broker_url}
        stack = running.enter_context(start_stack(directory, **settings))
        agents = {}
        for name, machine in zip(NAMES, net.machines, strict=True):
            host = joined(stack, name, temporary.mktemp(name), machine.command())
            agents[name] = running.enter_context(host.running()).pid
        client = running.enter_context(closing(stack.signed_in()))

        def are_there() -> bool:
            return all(client.get(f"/api/v1/hosts/{name}").json()["devices"] for name in NAMES)

        wait_until(are_there, PATIENCE, "both machines' devices")
        yield Pair(stack, client, agents)


def said(job: dict) -> list[str]:
    """Return the reasons of a job and of its ranks."""
    return [job["reason"], *(f"{rank['state']}: {rank['reason']}" for rank in job["ranks"])]
