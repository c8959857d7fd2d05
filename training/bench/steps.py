"""Step timings: what they cost the loop, whether all of them arrive, and how fast a long run is read. `manage.py bench steps`."""

import tempfile
from pathlib import Path

from telemetry.bench.figure import Figure
from training.bench import client_cost, ranks


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        return [*client_cost.run(Path(directory)), *ranks.run(Path(directory) / "ranks")]
