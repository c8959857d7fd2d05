"""What the agent costs the machine that it watches: the real process at rest, against a broker of its own."""

import sys
import tempfile
import time
from pathlib import Path

import psutil
from django.conf import settings

from fleet import broker
from fleet.child import Child
from fleet.processes import agent_command, agent_environment
from fleet.settings import BASE_DIR, embedded_broker_url
from fleet.supervisor import Console, Supervisor
from telemetry.bench.figure import BenchFailed, Figure

SETTLE_SECONDS, REST_SECONDS = 5.0, 30.0
MOST_CPU_PERCENT, MOST_RESIDENT_MB = 1.0, 80.0
_BROKER_SECONDS = 10.0
_MB = 1e6


def run() -> list[Figure]:
    """Return CPU share and resident memory of the agent with all processes below it. Raises BenchFailed."""
    with (
        tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory,
        Supervisor(Console(sys.stderr.buffer, ("bench", "broker", "agent")), own_name="bench") as supervisor,
    ):
        broker_url = _start_broker(supervisor, Path(directory) / "broker")
        supervisor.start(_agent(broker_url, Path(directory)))
        _rest(supervisor, SETTLE_SECONDS)
        try:
            cpu_percent, resident_mb = _measure(supervisor, _find_agent())
        except psutil.NoSuchProcess as error:
            raise BenchFailed("the agent ended; what it said stands above") from error
    return [
        Figure(
            name="agent at rest, CPU",
            value=cpu_percent,
            unit="% of a core",
            target=f"at most {MOST_CPU_PERCENT:g}",
            met=cpu_percent <= MOST_CPU_PERCENT,
        ),
        Figure(
            name="agent at rest, resident memory",
            value=resident_mb,
            unit="MB",
            target=f"at most {MOST_RESIDENT_MB:g}",
            met=resident_mb <= MOST_RESIDENT_MB,
        ),
    ]


def _measure(supervisor: Supervisor, agent: psutil.Process) -> tuple[float, float]:
    """Return (% of a core, MB)."""
    cpu_before, begin = _cpu_seconds(agent), time.monotonic()
    _rest(supervisor, REST_SECONDS)
    cpu_percent = 100 * (_cpu_seconds(agent) - cpu_before) / (time.monotonic() - begin)
    return cpu_percent, sum(process.memory_info().rss for process in _tree(agent)) / _MB


def _start_broker(supervisor: Supervisor, directory: Path) -> str:
    """Return the URL of an embedded broker that nobody else uses, once it answers."""
    port_file, password = directory / "port", settings.EMBEDDED_BROKER_PASSWORD
    supervisor.start(broker.embedded_broker(directory, port_file, password))
    if not supervisor.run_until(lambda: broker.answers(port_file, password), within_seconds=_BROKER_SECONDS):
        raise BenchFailed("the embedded broker does not answer; what it said stands above")
    return embedded_broker_url(int(port_file.read_text()))


def _agent(broker_url: str, directory: Path) -> Child:
    environment = {**agent_environment(broker_url), "STEPWATT_DATA_DIR": str(directory)}
    environment.pop("STEPWATT_SOCKET", None)  # another agent may listen there
    return Child("agent", agent_command("run", "--name", "bench"), BASE_DIR, environment)


def _rest(supervisor: Supervisor, seconds: float) -> None:
    supervisor.run_until(lambda: False, within_seconds=seconds)
    if supervisor.stop_asked:
        raise BenchFailed("stopped")


def _find_agent() -> psutil.Process:
    for process in psutil.Process().children():
        if "telemetry.agent" in process.cmdline():
            return process
    raise BenchFailed("the agent does not run; what it said stands above")


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu_seconds(process: psutil.Process) -> float:
    """Return user and system time of the process and of all below it, those included that have ended."""
    return sum(sum(each.cpu_times()[:4]) for each in _tree(process))
