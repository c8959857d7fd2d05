"""`manage.py verdict_curves`: how often verdicts err and how much they find, simulated from the fleet's noise or a given one."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from training.judging import noise
from training.verdicts import beside_others
from training.verdicts.beside_others import Whole
from training.verdicts.characteristic import Lognormal, Measured, Rates, curve
from training.verdicts.confirmation import FRESH_RUNS
from training.verdicts.screening import FULL

SLOWDOWNS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.10, 0.15, 0.20)
_COLUMNS = (
    "slower by",
    "one run alarms",
    "in a fleet",
    "newest 5 suspicious",
    "5 fresh runs: slow",
    "found by one",
    "found by 5",
    "found",
)


class Command(BaseCommand):
    help = "Simulate false alarms and power of the verdicts on reference jobs: from the fleet's own runs, or for given noise."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--cv", type=float, action="append", help="noise of runs, such as 0.04 (several: several curves)"
        )
        parser.add_argument("--workload", default="", help="the fleet's noise of this workload alone")
        parser.add_argument("--n", type=int, default=FULL, help=f"runs in the baseline ({FULL})")
        parser.add_argument("--fresh", type=int, default=FRESH_RUNS, help=f"fresh runs ({FRESH_RUNS})")
        parser.add_argument(
            "--others", type=int, default=0, help="also with so many runs of other devices as a baseline"
        )
        parser.add_argument("--trials", type=int, default=100_000, help="for each point (100000)")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the rates there too")

    def handle(self, *args: Any, cv: list[float] | None, n: int, fresh: int, trials: int, **options: Any) -> None:
        others = options["others"]
        if n < 5 or fresh < 3 or trials < 1 or 0 < others < 5:
            raise CommandError(
                "expected --n and --others of at least 5, --fresh of at least 3 and --trials of at least 1"
            )
        console, found = Console(highlight=False), {}
        for name, sampled in self._noises(cv, options["workload"]):
            rates = curve(sampled, SLOWDOWNS, n=n, m=fresh, trials=trials)
            found[name] = [asdict(each) for each in rates]
            console.print(_table(f"{name}, n {n}, {fresh} fresh runs, {trials:,} trials", rates))
            if others:
                both = [
                    beside_others.rates(sampled, slowdown, n_others=others, n=n, m=fresh, trials=trials)
                    for slowdown in SLOWDOWNS
                ]
                console.print(_both_table(f"{name}, beside {others} runs of other devices", both))
        if options["json"]:
            options["json"].write_text(json.dumps(found, indent=1) + "\n")

    def _noises(self, cvs: list[float] | None, workload: str) -> list[tuple[str, Lognormal | Measured]]:
        if cvs:
            if not all(0 < cv < 1 for cv in cvs):
                raise CommandError("--cv: expected a number between 0 and 1, such as 0.04")
            return [(f"CV {cv:.1%}", Lognormal(cv)) for cv in cvs]
        own = noise.of_fleet(workload)
        if own is None:
            raise CommandError(
                f"the fleet has not run enough yet: {noise.FEWEST_RUNS} clean runs, of devices with 5 and more, are needed; "
                "or name a noise by --cv 0.04"
            )
        return [(f"the fleet's own noise, CV {own.cv:.1%} of {own.residuals.size} runs", own)]


def _both_table(title: str, rates: list[Whole]) -> Table:
    table = Table("slower by", "suspected", "found", "of the suspected", title=title, box=None)
    for each in rates:
        share = each.found_of_suspected
        told = "—" if share is None else f"{share:.1%}"
        table.add_row(f"{each.slowdown:.0%}", f"{each.suspected:.2%}", f"{each.found:.2%}", told)
    return table


def _table(title: str, rates: list[Rates]) -> Table:
    table = Table(*_COLUMNS, title=title, box=None)
    for each in rates:
        shares = (
            each.screened,
            each.screened_in_fleet,
            each.by_series,
            each.confirmed,
            each.found_by_one,
            each.found_by_series,
            each.found,
        )
        table.add_row(f"{each.slowdown:.0%}", *(f"{share:.2%}" for share in shares))
    return table
