"""What this host knows of its jobs, on its own disk: one JSON file a job, written before the job's process starts.

So an order that comes twice starts nothing twice, also after the agent was killed, and every job ends in a known state.
Called by the runner and its jobs, from several threads. No Django, no torch.
"""

import json
import logging
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Self

logger = logging.getLogger(__name__)

ENDED_STATES = ("done", "failed", "cancelled", "lost")
KEEP_ENDED_MS = 30 * 86_400_000
KEEP_ENDED_RECORDS = 1_000
_LIFE = secrets.token_hex(6)  # names the drafts of this process, whose number a later one may get again


@dataclass(frozen=True, slots=True)
class Record:
    """One job on this host; `job` and `launch` are its identity, as a new server counts its jobs from 1 again.

    `sequence` is that of the last report that the disk knows of. `pid` and `started_ticks` (its start time as /proc
    tells it) name the process, within the run of the machine that `boot_id` names; both 0 while there is none.
    `final_report` is what the job ended with; `is_sent` once the broker has it.
    """

    job: int
    launch: str
    state: str
    changed_ms: int
    pid: int = 0
    started_ticks: int = 0
    sequence: int = 0
    final_report: dict[str, Any] | None = None
    is_sent: bool = False
    boot_id: str = ""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_STATES


class Records:
    """The folder of records. A file appears and changes whole or not at all."""

    def __init__(self, directory: Path) -> None:
        self.directory = self._directory = directory
        self._lock = Lock()  # an update reads, changes and writes; the sender's thread updates too

    def claim(self, record: Record) -> bool:
        """Write a job's first record; False where there is one, of which nothing is changed."""
        with self._draft(record) as draft:
            try:
                os.link(draft.path, self._path(record.job))
            except FileExistsError:
                return False
        self._sync_directory()
        return True

    def get(self, job: int) -> Record | None:
        """Return the record, None where there is none. Raises ValueError where the file is damaged."""
        try:
            raw = self._path(job).read_text()
        except FileNotFoundError:
            return None
        try:
            return Record(**json.loads(raw))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._path(job)} is damaged: {error}") from error

    def update(self, job: int, **changes: Any) -> Record:
        """Change fields of a record that exists; returns it."""
        with self._lock:
            record = self.get(job)
            if record is None:
                raise ValueError(f"job {job} has no record")
            record = replace(record, **changes)
            self._write(record)
            return record

    def mark_sent(self, job: int, launch: str, sequence: int) -> None:
        """Note that the broker has the final report of that sequence."""
        with self._lock:
            record = self.get(job)
            if record is None or record.final_report is None or record.launch != launch:
                return
            if record.final_report["sequence"] == sequence:
                self._write(replace(record, is_sent=True))

    def put(self, record: Record) -> None:
        """Write a record over whatever there was."""
        with self._lock:
            self._write(record)

    def _write(self, record: Record) -> None:
        with self._draft(record) as draft:
            draft.path.replace(self._path(record.job))
        self._sync_directory()

    def all(self) -> Iterator[Record]:
        """Yield every record, oldest job first; a damaged one is logged and left where it is."""
        for path in sorted(self._directory.glob("*.json"), key=lambda path: (len(path.stem), path.stem)):
            try:
                record = self.get(int(path.stem))
            except (ValueError, OSError):
                logger.exception("a job's record cannot be read; the job stays as the server knows it")
                continue
            if record is not None:
                yield record

    def prune(self, now_ms: int) -> None:
        """Remove ended and reported records that are old or many, and drafts that a killed agent left."""
        for draft in self._directory.glob(".draft-*"):
            if not draft.name.startswith(f".draft-{_LIFE}-"):  # another thread of this life may be writing its own
                draft.unlink(missing_ok=True)
        ended = [record for record in self.all() if record.has_ended and record.is_sent]
        ended.sort(key=lambda record: record.changed_ms, reverse=True)
        for position, record in enumerate(ended):
            if position >= KEEP_ENDED_RECORDS or now_ms - record.changed_ms > KEEP_ENDED_MS:
                self._path(record.job).unlink(missing_ok=True)

    def _path(self, job: int) -> Path:
        return self._directory / f"{job}.json"

    def _draft(self, record: Record) -> "_Draft":
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _Draft(self._directory, json.dumps(asdict(record)))

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class _Draft:
    """A file beside the records that holds the text for sure, gone at the end if nobody moved it into place."""

    def __init__(self, directory: Path, text: str) -> None:
        self.path = directory / f".draft-{_LIFE}-{secrets.token_hex(6)}"
        self._text = text

    def __enter__(self) -> Self:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._text)
            file.flush()
            os.fsync(file.fileno())
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
