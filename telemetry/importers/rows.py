"""Reading recorded CSV files: rows with their time, host and device; bad ones counted, with file and line. Pure.

Files that end in .gz or .xz are read as they are.
"""

import csv
import gzip
import lzma
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TextIO

from telemetry.importers.vocabulary import Header, ValueUnreadable, read_header
from telemetry.message.wire import HOST_NAME

_EARLIEST_MS = 946_684_800_000  # 2000-01-01: what lies before is no time in milliseconds
_NVIDIA_SMI_TIMES = ("%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S")
_SHOWN_FAULTS = 20
_STRAY_QUOTE = (
    'a quote (") begins a cell and does not end it in this line; remove it, or write "" for one that is meant'
)


class FileUnusable(Exception):
    """A file cannot be imported; the text names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of one device: `device` holds what the file says of it ("" keys are left out), values in base units."""

    time_ms: int
    host: str
    device: tuple[tuple[str, str], ...]
    values: dict[str, float]
    line: int = 0  # of its file


@dataclass(slots=True)
class Faults:
    """Bad rows: how many, and the first of them in words."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        self.count += 1
        if len(self.shown) < _SHOWN_FAULTS:
            self.shown.append(f"{where}: {what}")


def read_rows(
    path: Path, *, host: str, columns: Mapping[str, str], zone: tzinfo, latest_ms: int, faults: Faults
) -> tuple[Header, Iterator[Row]]:
    """Return the file's header and its good rows; bad ones go to `faults` as they are met.

    `host` is for files that name none; `zone` is for times without one. Raises FileUnusable.
    """
    rows = cells_of(path, faults)
    try:
        first = next(rows)[1]
        header = read_header(first, columns)
    except StopIteration:
        raise FileUnusable(f"{path}: the file is empty") from None
    except ValueError as error:
        raise FileUnusable(f"{path}: {error}") from error
    if header.host is None and not host:
        raise FileUnusable(f"{path}: no column host or node; say whose telemetry it is with --host NAME")
    return header, _good_rows(path, header, _below(path, first, header.time, rows), host, zone, latest_ms, faults)


def _below(
    path: Path, first: list[str], time: int, rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows without the header of each further run that was written into the same file. Raises FileUnusable."""
    for line, cells in rows:
        if len(cells) <= time or cells[time].strip() != first[time].strip():
            yield line, cells
        elif cells != first:
            raise FileUnusable(f"{path}, line {line}: other columns begin here; split the file before this line")


def _good_rows(
    path: Path, header: Header, rows: Iterator[tuple[int, list[str]]], host: str, zone: tzinfo, latest_ms: int, faults: Faults
) -> Iterator[Row]:  # fmt: skip
    for line, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            row = _row(header, line, cells, host, zone, latest_ms)
        except ValueUnreadable as error:
            faults.add(f"{path}, line {line}", str(error))
        except IndexError:
            faults.add(f"{path}, line {line}", f"only {len(cells)} of its columns")
        else:
            yield row


def _row(header: Header, line: int, cells: list[str], host: str, zone: tzinfo, latest_ms: int) -> Row:
    at_ms = time_ms(cells[header.time].strip(), header.time_name, zone)
    if at_ms > latest_ms:
        raise ValueUnreadable(f"{header.time_name}: {cells[header.time].strip()!r} lies in the future")
    name = cells[header.host].strip() if header.host is not None else host
    if not HOST_NAME.fullmatch(name):
        raise ValueUnreadable(f"host: {name!r} is no host's name")
    device = tuple((meaning, cells[at].strip()) for meaning, at in header.devices.items() if cells[at].strip())
    readings = {column.metric: column.read(cells[column.position]) for column in header.metrics}
    values = {metric: value for metric, value in readings.items() if value is not None}
    return Row(at_ms, name, device, values, line)


def time_ms(words: str, name: str, zone: tzinfo) -> int:
    """Return UTC milliseconds of a cell of `time_ms` or `timestamp`. Raises ValueUnreadable."""
    if name == "time_ms":
        try:
            found = int(words)
        except ValueError:
            raise ValueUnreadable(f"time_ms: {words!r} is no whole number of milliseconds") from None
    else:
        found = round(_moment(words, zone).timestamp() * 1000)
    if found < _EARLIEST_MS:
        raise ValueUnreadable(f"{name}: {words!r} lies before the year 2000; are these milliseconds?")
    return found


def _moment(words: str, zone: tzinfo) -> datetime:
    for form in _NVIDIA_SMI_TIMES:
        try:
            return datetime.strptime(words, form).replace(tzinfo=zone)
        except ValueError:
            continue
    try:
        moment = datetime.fromisoformat(words)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueUnreadable(f"timestamp: {words!r} is neither ISO 8601 nor nvidia-smi's form") from None


def cells_of(path: Path, faults: Faults) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells); a line that is none of CSV goes to `faults`. Raises FileUnusable where the file cannot be read.

    Each line is read by itself: a quote that nobody closes spoils its own line, and swallows none of those after it.
    """
    try:
        with opened(path) as file:
            for number, line in enumerate(file, start=1):
                is_open = line.count('"') % 2 == 1
                try:
                    cells = next(csv.reader((line,), skipinitialspace=True, strict=is_open), [])
                except csv.Error as error:  # such as the zeros that a crash leaves in a log
                    faults.add(f"{path}, line {number}", _STRAY_QUOTE if is_open else f"cannot be read ({error})")
                else:
                    yield number, cells
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise FileUnusable(f"{path}: cannot be read ({error})") from error


def opened(path: Path) -> TextIO:
    """Open a text file, decompressing by its name's ending. A byte that is no UTF-8 spoils its own cell alone."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")
