"""`manage.py ladder WORKLOAD --host H`: what the button "run the ladder" does; with `--wait`, progress and the result."""

import json
import os
from argparse import ArgumentParser
from pathlib import Path
from time import sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fleet.access.audit import Actor
from training.api.verdicts import LadderItem
from training.jobs import command_params, ladder_runs
from training.jobs.ladder_table import ladder_table
from training.jobs.launch import LaunchRefused
from training.ladder.speedup import BLOCKS
from training.models import LadderRun, LadderState
from training.workloads.catalog import WORKLOADS
from training.workloads.params import ParamsInvalid

POLL_SECONDS = 1.0
_WIDTH = 160  # letters, of a table that is written into a file


class Command(BaseCommand):
    help = "Climb one workload rung by rung on one device, in randomised blocks of fresh processes, as the button does."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workload", help=f"one of {', '.join(WORKLOADS)} that has rungs")
        parser.add_argument("--host", required=True)
        parser.add_argument(
            "--device", default="", metavar="UUID", help="of the host; else its first accelerator, or its CPU"
        )
        parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="what all rungs share")
        parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"how often each rung is run ({BLOCKS})")
        parser.add_argument(
            "--wait", action="store_true", help="show progress; exit status 0 only if it came to its end"
        )
        parser.add_argument(
            "--json", type=Path, metavar="FILE", help="write the result there, as the API answers; waits"
        )

    def handle(self, *args: Any, workload: str, host: str, wait: bool, **options: Any) -> None:
        try:
            params = command_params.read(workload, options["param"])
            run = ladder_runs.start(
                workload, host, params, actor=Actor.of_command(), now=timezone.now(), n_blocks=options["blocks"],
                device_uuid=options["device"],
            )  # fmt: skip
        except (LaunchRefused, ParamsInvalid) as error:
            raise CommandError(f"nothing was started: {error}") from error
        console = Console(highlight=False, markup=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console.width = _WIDTH  # a file has no edge at which to cut columns
        rungs = ", ".join(rung["name"] for rung in run.rungs)
        console.print(f"ladder {run.pk}: {workload} on {host}, {len(run.order)} blocks of {rungs}", soft_wrap=True)
        if wait or options["json"]:
            self._finish(run, console, options["json"])

    def _finish(self, run: LadderRun, console: Console, file: Path | None) -> None:
        try:
            ended = follow(run, console)
        except KeyboardInterrupt:
            how = f"cancel it on its page (/reference/ladders/{run.pk}/)"
            raise CommandError(f"no longer waiting; the ladder goes on: {how}", returncode=130) from None
        console.print(ladder_table(ladder_runs.result(ended)))
        if file is not None:
            _write(file, LadderItem.of(ended).model_dump(mode="json"))
        if ended.state != LadderState.DONE:
            raise CommandError(f"the ladder {ended.get_state_display()}: {ended.reason}")


def follow(run: LadderRun, console: Console) -> LadderRun:
    """Show how far the ladder is until it has ended; returns it as it is then."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed} of {task.total}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        row = bar.add_task("waits for its host", total=None)
        while True:
            found = LadderRun.objects.select_related("host", "device").filter(pk=run.pk).first()
            if found is None:
                raise CommandError(f"ladder {run.pk} is known no more: its host was removed")
            rows = list(found.processes.select_related("job"))
            n_ended = sum(process.job.is_final for process in rows)
            now = found.rungs[rows[-1].rung]["name"] if rows else "waits for its host"
            bar.update(row, description=now, completed=n_ended, total=ladder_runs.n_processes(found))
            if found.is_final:
                return found
            sleep(POLL_SECONDS)


def _write(file: Path, answer: dict[str, Any]) -> None:
    try:
        file.write_text(json.dumps(answer, indent=2) + "\n")
    except OSError as error:
        raise CommandError(f"--json {file}: cannot be written ({error.strerror})") from error
