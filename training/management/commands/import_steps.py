"""`manage.py import_steps FILE… --run NAME`: recorded step timings become a run on a host of origin "imported"."""

import re
from argparse import ArgumentParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.models import Host, Origin
from telemetry.importers.rows import FileUnusable
from telemetry.message.wire import HOST_NAME
from training.runs.recorded_steps import import_files

_RUN = re.compile(r"[^\x00-\x1f]{1,200}")


class Command(BaseCommand):
    help = "Import recorded step timings from CSV (.gz and .xz are read too); docs/import.md tells the columns."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
        parser.add_argument("--run", required=True, help="the run's name")
        parser.add_argument(
            "--host",
            action="append",
            default=[],
            help="the imported host that it ran on (column host or node, else imported); more than once where it ran on several",
        )
        parser.add_argument("--cluster", default="", help="it ran on all imported hosts of this cluster")
        parser.add_argument(
            "--column", action="append", default=[], metavar="SRC=NAME[:cumulative]", help="what a column holds"
        )
        parser.add_argument(
            "--start", default="", metavar="TIME", help="ISO 8601: when it began, for a log without times"
        )

    def handle(
        self, *, files: list[Path], run: str, host: list[str], cluster: str, column: list[str], start: str, **_: Any
    ) -> None:
        if not _RUN.fullmatch(run):
            raise CommandError(f"--run {run!r}: expected 1 to 200 characters")
        for name in host:
            if not HOST_NAME.fullmatch(name):
                raise CommandError(f"--host {name!r}: expected letters, digits, dot, dash or underscore, at most 63")
        hosts = list(dict.fromkeys([*host, *_of_cluster(cluster)]))
        try:
            report = import_files(files, run, hosts=hosts, columns=column, start=_moment(start))
        except FileUnusable as error:
            raise CommandError(str(error)) from error
        for line in report.faults.shown:
            self.stderr.write(line)
        if report.ignored_columns:
            self.stderr.write(f"columns that were not imported: {', '.join(sorted(report.ignored_columns))}")
        changed = f"{report.new} new" if report.new else "none new: they were imported before"
        self.stdout.write(f"{report.steps:,} steps of run {run}, {changed}; {report.faults.count} bad rows")


def _of_cluster(cluster: str) -> list[str]:
    if not cluster:
        return []
    hosts = Host.objects.filter(cluster=cluster, origin=Origin.IMPORTED).order_by("name")
    names = list(hosts.values_list("name", flat=True))
    if not names:
        raise CommandError(f"--cluster {cluster!r}: no imported host is in it; import its telemetry first")
    return names


def _moment(words: str) -> datetime | None:
    if not words:
        return None
    try:
        moment = datetime.fromisoformat(words)
    except ValueError as error:
        raise CommandError(f"--start {words!r}: expected ISO 8601, such as 2026-11-23T12:00:00Z") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
