"""Which devices Slurm's jobs have: a file for each, written by the prolog and removed by the epilog, as jobstats does it.

Called by allocation.py on a thread of its own. The files are named by nvidia-smi's index or by the UUID, of MIG instances by
that alone, and hold "job user". Source: jobstats, slurm/prolog.d/gpustats_helper.sh.
"""

from collections.abc import Iterator
from pathlib import Path

from telemetry.agent.backends.allocation_given import Answer, Given, index_name
from telemetry.catalog import AbsentReason

DIRECTORY = Path("/run/gpustat")
_READ_BYTES = 64


class SlurmFiles:
    def __init__(self, directory: Path = DIRECTORY) -> None:
        self._directory = directory

    def look(self) -> Answer:
        """Return the devices of jobs; None where there is no such directory: no prolog of that kind has run since the boot."""
        try:
            return Given(frozenset(self._taken()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return AbsentReason.NO_PERMISSION

    def _taken(self) -> Iterator[str]:
        for path in self._directory.iterdir():
            try:
                with path.open("rb") as file:
                    job = file.read(_READ_BYTES).split()[:1]
            except (FileNotFoundError, IsADirectoryError):  # the epilog has just removed it; or it is no device's
                continue
            if job and job[0].isdigit() and int(job[0]):
                yield index_name(path.name) if path.name.isdigit() else path.name
