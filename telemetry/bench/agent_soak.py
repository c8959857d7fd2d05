"""Whether the agent's memory stays what it is: an hour at ten times the speed, where STEPWATT_BENCH_SOAK_SECONDS asks for it.

Called by the agent's bench. 3600 is the whole hour; less is a look, not an answer.
"""

import os
import statistics
from pathlib import Path

from telemetry.bench.agent_stand import Stand, stand
from telemetry.bench.figure import BenchFailed, Figure
from telemetry.bench.process_cost import cost_of

SIDE = "soak"
SETTLE_SECONDS = 12.0
LOOK_SECONDS = 15.0  # as often as a server acknowledges
MOST_GROWTH_MB = 1.0
_FASTER = {"STEPWATT_SAMPLE_SECONDS": "0.1", "STEPWATT_BATCH_SECONDS": "0.5"}
_MB = 1e6


def run(directory: Path) -> list[Figure]:
    """Return how much the agent grew from the first quarter of the time to the last; nothing where it is not asked for."""
    seconds = float(os.environ.get("STEPWATT_BENCH_SOAK_SECONDS") or 0)
    if not seconds:
        return []
    own = directory / SIDE
    own.mkdir()
    with stand(own, SIDE) as alone:
        alone.start_agent(SIDE, **_FASTER)
        alone.wait(SETTLE_SECONDS)
        sizes = _watch(alone, seconds)
    quarter = len(sizes) // 4
    growth = (statistics.median(sizes[-quarter:]) - statistics.median(sizes[:quarter])) / _MB
    name = f"agent, growth over {seconds:g} s at ten times the speed"
    return [Figure(name, growth, "MB", target=f"at most {MOST_GROWTH_MB:g}", met=growth <= MOST_GROWTH_MB)]


def _watch(alone: Stand, seconds: float) -> list[int]:
    """Return the resident bytes at each look; what came is acknowledged meanwhile, as a server would. Raises BenchFailed."""
    pid, sizes = alone.pid(SIDE), []
    for _ in range(max(4, round(seconds / LOOK_SECONDS))):
        alone.wait(LOOK_SECONDS)
        if not alone.acknowledge(SIDE):
            raise BenchFailed("the agent sent nothing")
        sizes.append(cost_of(pid).resident_bytes)
    return sizes
