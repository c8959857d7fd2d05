"""From the broker to the disk, at full speed and with a whole fleet: the rows of the ingest, each beside its peer.

STEPWATT_BENCH_INGEST_PARTS names those that run (path, postgresql, fleet), where not all shall.
"""

import tempfile
from pathlib import Path

from telemetry.bench import fleet_run, parts, postgresql, whole_path
from telemetry.bench.figure import Figure

_PARTS = {"path": whole_path.run, "postgresql": postgresql.run, "fleet": fleet_run.run}


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        figures = []
        for name, part in parts.chosen("STEPWATT_BENCH_INGEST_PARTS", _PARTS).items():
            own = Path(directory) / name
            own.mkdir()
            figures += part(own)
    return figures
