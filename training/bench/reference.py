"""Reference jobs: what their harness costs, how soon they start and end, how long they take. `manage.py bench reference`.

STEPWATT_BENCH_REFERENCE_PARTS names parts: harness (about 25 minutes), times (1), hosts (2), sizes (5, on a quiet machine).
"""

import tempfile
from pathlib import Path

from telemetry.bench.figure import Figure
from telemetry.bench.parts import Part, chosen
from training.bench import harness_cost, job_sizes, job_times, many_hosts

_PARTS: dict[str, Part] = {
    "harness": harness_cost.run,
    "times": job_times.run,
    "hosts": many_hosts.run,
    "sizes": job_sizes.run,
}


def run() -> list[Figure]:
    """Return the figures. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="stepwatt-bench-") as directory:
        figures = []
        for name, part in chosen("STEPWATT_BENCH_REFERENCE_PARTS", _PARTS).items():
            own = Path(directory) / name
            own.mkdir()
            figures += part(own)
    return figures
