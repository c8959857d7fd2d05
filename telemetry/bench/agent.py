"""What the agent costs the machine that it watches, beside what people use today: all of them at once, over one stub.

Eight devices, one sample a second, a minute long: the agent, the same agent with its power at 10 Hz, its worker at rest,
nvitop-exporter scraped each second, and a bare loop over pynvml. STEPWATT_BENCH_SECONDS makes it shorter or longer.
"""

import os
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from socket import create_server

from telemetry.agent.app import create_app
from telemetry.agent.config import read_config
from telemetry.agent.keys import Seal
from telemetry.agent.sender import Sender
from telemetry.bench import agent_soak
from telemetry.bench.agent_stand import DEVICES, Stand, stand
from telemetry.bench.agent_wire import Sent, bytes_per_value, sent_by, simulated_batches
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.process_cost import Cost, cost_of
from telemetry.message.wire import INGEST_TASK

SECONDS, SETTLE_SECONDS = 60.0, 12.0
POWER_SECONDS = 0.1
AGENT, POWER, REST, PEER, BARE, SIMULATED = "agent", "power", "rest", "nvitop-exporter", "bare-loop", "sim-0001"
MOST_OF_PEER, MOST_OF_BARE, MOST_OF_POWER = 1 / 3, 2.5, 3.0
MOST_RESIDENT_MB, MOST_WAKES, MOST_LATENESS_MS = 75.0, 5.0, 5.0
MOST_PAYLOAD_BYTES, MOST_BROKER_BYTES = 1.4, 2.5
_MB = 1e6


@dataclass(frozen=True, slots=True)
class Spent:
    """What one side used over the measured time."""

    cpu_seconds: float
    resident_bytes: int
    wakes: int


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    seconds = float(os.environ.get("STEPWATT_BENCH_SECONDS") or SECONDS)
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        with stand(Path(directory), AGENT, POWER, REST, PEER, BARE) as all_sides:
            spent = _measure(all_sides, seconds)
            batches = sent_by(AGENT, all_sides.messages())
            simulated = _send_simulated(all_sides)
        return [
            *_of_cpu(spent, seconds),
            *_of_process(spent[AGENT], seconds, batches),
            *_of_wire(simulated),
            *agent_soak.run(Path(directory)),
        ]


def _measure(sides: Stand, seconds: float) -> dict[str, Spent]:
    sides.start_agent(AGENT)
    sides.start_agent(POWER, STEPWATT_POWER_SECONDS=str(POWER_SECONDS))
    sides.start(REST, (sys.executable, "-m", "telemetry.bench.agent_rest"), **sides.joined(REST))
    sides.start(BARE, (sys.executable, "-m", "telemetry.bench.bare_loop"))
    names = [AGENT, POWER, REST, BARE]
    with _peer(sides) as has_peer:
        names += [PEER] if has_peer else []
        sides.wait(SETTLE_SECONDS)
        pids = {name: sides.pid(name) for name in names}
        before = {name: cost_of(pid) for name, pid in pids.items()}
        sides.wait(seconds)
        return {name: _spent(before[name], cost_of(pid)) for name, pid in pids.items()}


def _spent(before: Cost, after: Cost) -> Spent:
    return Spent(after.cpu_seconds - before.cpu_seconds, after.resident_bytes, after.wakes - before.wakes)


@contextmanager
def _peer(sides: Stand) -> Iterator[bool]:
    """Run nvitop-exporter and scrape it each second; yields whether it is installed."""
    if find_spec("nvitop_exporter") is None:
        yield False
        return
    with create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    sides.start(
        PEER,
        (sys.executable, "-m", "nvitop_exporter", "--bind-address", "127.0.0.1", "--port", str(port)),
        LOGLEVEL="CRITICAL",
    )
    ending = threading.Event()
    scraper = threading.Thread(target=_scrape, args=(f"http://127.0.0.1:{port}/metrics", ending), daemon=True)
    scraper.start()
    try:
        yield True
    finally:
        ending.set()
        scraper.join()


def _scrape(url: str, ending: threading.Event) -> None:
    while not ending.wait(1.0):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 — an address of this process's own making
                answer.read()
        except OSError:  # not up yet; one that ends is found when it is measured
            continue


def _send_simulated(sides: Stand) -> list[Sent]:
    """Send the simulator's batches by the agent's own sender, and return them as they lie in the broker."""
    config = read_config({**os.environ, **sides.joined(SIMULATED), "STEPWATT_BROKER_URL": sides.broker_url})
    sender = Sender(create_app(config), Seal(config.directory, config.host))
    bodies = simulated_batches(DEVICES)
    for body in bodies:
        sender.submit(INGEST_TASK, body)  # straight: the spool changes nothing of a message
    sender.start()
    sender.stop(patience=30)
    found = sent_by(SIMULATED, sides.messages())
    if len(found) != len(bodies):
        raise BenchFailed(f"{len(found)} of {len(bodies)} simulated batches came to the broker")
    return found


def _of_cpu(spent: dict[str, Spent], seconds: float) -> list[Figure]:
    """Return CPU seconds for a thousand GPU-samples: of the agents over the worker at rest, of the others whole."""
    thousands = DEVICES * seconds / 1000
    rest = spent[REST].cpu_seconds / thousands
    own = spent[AGENT].cpu_seconds / thousands - rest
    power = spent[POWER].cpu_seconds / thousands - rest
    bare = spent[BARE].cpu_seconds / thousands
    peer = spent[PEER].cpu_seconds / thousands if PEER in spent else None
    unit = "CPU s per 1,000 GPU-samples"
    return [
        Figure("worker at rest", rest, unit),
        Figure("agent with its worker", own + rest, unit),
        Figure(
            "agent over its worker at rest", own, unit, PEER, peer, "at most a third of its peer's",
            None if peer is None else own <= peer * MOST_OF_PEER,
        ),
        Figure(
            "agent over its worker at rest", own, unit, "bare pynvml loop, 17 calls", bare,
            f"at most {MOST_OF_BARE:g} × its peer's", own <= bare * MOST_OF_BARE,
        ),
        Figure(  # of what somebody pays who turns it on, the worker included
            "agent with its worker, power at 10 Hz", power + rest, unit, "the agent at 1 Hz", own + rest,
            f"at most {MOST_OF_POWER:g} × its peer's", power + rest <= (own + rest) * MOST_OF_POWER,
        ),
        Figure("the same over its worker at rest", power, unit, "the agent at 1 Hz", own),
    ]  # fmt: skip


def _of_process(agent: Spent, seconds: float, batches: list[Sent]) -> list[Figure]:
    """Return memory, wakes (voluntary context switches of all threads) and lateness of the agent at 1 Hz."""
    columns = (sent.batch.columns.get("agent_tick_lateness_seconds", []) for sent in batches)
    lateness = sorted(value for by_device in columns for column in by_device for value in column if value is not None)
    if not lateness:
        raise BenchFailed("the agent told no lateness of its ticks")
    return [
        _most("agent, resident memory", agent.resident_bytes / _MB, "MB", MOST_RESIDENT_MB),
        _most("agent, wakes of all threads", agent.wakes / seconds, "per second", MOST_WAKES),
        _most("agent, tick lateness p99", 1000 * lateness[int(0.99 * (len(lateness) - 1))], "ms", MOST_LATENESS_MS),
    ]


def _of_wire(batches: list[Sent]) -> list[Figure]:
    payload, in_broker = bytes_per_value(batches)
    return [
        _most("simulated host of 8 GPUs, payload", payload, "bytes per value", MOST_PAYLOAD_BYTES),
        _most("the same in the broker", in_broker, "bytes per value", MOST_BROKER_BYTES),
    ]


def _most(name: str, value: float, unit: str, most: float) -> Figure:
    return Figure(name=name, value=value, unit=unit, target=f"at most {most:g}", met=value <= most)
