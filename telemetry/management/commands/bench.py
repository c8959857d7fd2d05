"""`manage.py bench [NAME]… [--json FILE]`: the benchmarks, each figure beside its peer's of the same run where there is one."""

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string
from rich.console import Console
from rich.table import Table

from telemetry.bench.figure import BenchFailed, Figure

# Benches of upper packages are named as strings, too.
BENCHES = {
    "start": "telemetry.bench.start.run",
    "agent": "telemetry.bench.agent.run",
    "metrics": "telemetry.bench.metrics.run",
    "ingest": "telemetry.bench.ingest.run",
    "query": "telemetry.bench.query.run",
    "pages": "telemetry.bench.pages.run",
    "steps": "training.bench.steps.run",
    "reference": "training.bench.reference.run",
}
_WORDS = {True: "met", False: "MISSED", None: "–"}


class Command(BaseCommand):
    help = "Run the benchmarks; exit status 1 where a target is missed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("benches", nargs="*", metavar="bench", help=f"{', '.join(BENCHES)} (default: all)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")

    def handle(self, *, benches: Sequence[str], json: Path | None, **_: object) -> None:
        unknown = sorted(set(benches) - set(BENCHES))
        if unknown:
            raise CommandError(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        figures = [figure for name in benches or BENCHES for figure in _run(name)]
        if json is not None:
            _write(json, figures)
        self.stdout.write(_text(figures))
        missed = sum(figure.met is False for figure in figures)
        if missed:
            raise CommandError(f"{missed} of {len(figures)} figures missed their target")


def _run(name: str) -> list[Figure]:
    try:
        figures: list[Figure] = import_string(BENCHES[name])()
    except BenchFailed as error:
        raise CommandError(f"{name}: {error}") from error
    return figures


def _write(file: Path, figures: Sequence[Figure]) -> None:
    try:
        file.write_text(json.dumps([figure.as_json() for figure in figures], indent=2) + "\n")
    except OSError as error:
        raise CommandError(f"--json {file}: cannot be written ({error.strerror})") from error


def _text(figures: Sequence[Figure]) -> str:
    """Return the table; where the output is no terminal, as wide as it wants to be."""
    console = Console() if sys.stdout.isatty() else Console(width=200)
    with console.capture() as capture:
        console.print(_table(figures))
    return capture.get()


def _table(figures: Sequence[Figure]) -> Table:
    table = Table("figure", "value", "unit", "peer", "peer's value", "ratio", "target", "")
    for figure in figures:
        table.add_row(
            figure.name,
            _digits(figure.value),
            figure.unit,
            figure.peer or "–",
            _digits(figure.peer_value),
            _digits(figure.ratio),
            figure.target or "–",
            _WORDS[figure.met],
        )
    return table


def _digits(value: float | None) -> str:
    """Return three significant digits: a benchmark has no more."""
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
