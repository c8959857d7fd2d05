"""`manage.py import_telemetry FILE…`: recorded telemetry becomes hosts of origin "imported"."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core.management.base import BaseCommand, CommandError

from telemetry import rollups
from telemetry.importers.rows import FileUnusable
from telemetry.importers.telemetry import Report, import_files

_ROLLUP_SECONDS = 120.0


class Command(BaseCommand):
    help = (
        "Import recorded telemetry: canonical CSV, or nvidia-smi --query-gpu=… --format=csv; .gz and .xz are read too."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument(
            "--host", default="", help="whose telemetry it is, where the file has no column host or node"
        )
        parser.add_argument("--cluster", default="", help="the cluster that the hosts belong to")
        parser.add_argument("--column", action="append", default=[], metavar="SRC=metric", help="what a column holds")
        parser.add_argument("--timezone", default="UTC", help="of times that name none, such as nvidia-smi's (UTC)")
        parser.add_argument("--shift-to-now", action="store_true", help="move all times so that the newest is now")

    def handle(self, *, files: list[Path], **options: Any) -> None:
        try:
            report = import_files(
                files,
                datetime.now(UTC),
                host=options["host"],
                cluster=options["cluster"],
                columns=chosen_columns(options["column"]),
                zone=_zone(options["timezone"]),
                shift_to_now=options["shift_to_now"],
                progress=self._progress,
            )
        except FileUnusable as error:
            raise CommandError(str(error)) from error
        self._tell(report)
        rollups.roll_up(_ROLLUP_SECONDS)  # what is left, the server's worker goes on with

    def _progress(self, done: int, total: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{done} of {total} devices", ending="" if done < total else "\n")

    def _tell(self, report: Report) -> None:
        for line in report.faults.shown:
            self.stderr.write(line)
        if report.faults.count > len(report.faults.shown):
            self.stderr.write(f"… and {report.faults.count - len(report.faults.shown)} bad rows more")
        if report.ignored_columns:
            self.stderr.write(f"columns that were not imported: {', '.join(sorted(report.ignored_columns))}")
        first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (report.first_ms, report.last_ms))
        changed = f"{report.windows} windows stored" if report.windows else "nothing new: it was imported before"
        self.stdout.write(
            f"{report.rows:,} rows, {report.samples:,} samples of {report.devices} devices on {len(report.hosts)} hosts, "
            f"{first:%F %T} to {last:%F %T} UTC; {report.faults.count} bad rows; {changed}"
        )


def chosen_columns(pairs: list[str]) -> dict[str, str]:
    """Return {header: metric} of `--column` arguments. Raises CommandError."""
    found = {}
    for pair in pairs:
        header, separator, metric = pair.rpartition("=")
        if not separator or not header or not metric:
            raise CommandError(f"--column {pair}: expected HEADER=metric")
        found[header] = metric
    return found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CommandError(f"--timezone {name}: no such time zone; expected a name such as Europe/Berlin") from error
