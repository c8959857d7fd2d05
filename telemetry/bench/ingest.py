"""From the broker to the disk, at full speed and with a whole fleet: the rows of the ingest, each beside its peer."""

import tempfile
from pathlib import Path

from telemetry.bench import fleet_run, postgresql, whole_path
from telemetry.bench.figure import Figure


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        figures = []
        for name, part in (("path", whole_path.run), ("postgresql", postgresql.run), ("fleet", fleet_run.run)):
            own = Path(directory) / name
            own.mkdir()
            figures += part(own)
    return figures
