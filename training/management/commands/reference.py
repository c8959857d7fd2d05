"""`manage.py reference WORKLOAD --host H…`: what the button does; with `--wait`, a progress bar and the result."""

from argparse import ArgumentParser
from datetime import datetime, timedelta
from time import sleep
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fleet.access.audit import Actor
from training.jobs import command_params, launch
from training.jobs.selection import of_hosts
from training.jobs.table import result_table
from training.models import JobState, ReferenceJob
from training.workloads.catalog import WORKLOADS
from training.workloads.params import ParamsInvalid

POLL_SECONDS = 0.5
LOST_PATIENCE = timedelta(seconds=30)  # a lost job's host may speak again
ENERGY_PATIENCE = timedelta(seconds=20)  # the last samples of a job come a batch after its result


class Command(BaseCommand):
    help = "Run a reference workload on hosts, as the button does."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workload", help=f"one of {', '.join(WORKLOADS)}")
        parser.add_argument("--host", action="append", required=True, help="may be given more than once")
        parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a workload's parameter")
        parser.add_argument(
            "--distributed", action="store_true", help="one job over all devices of the hosts, instead of one each"
        )
        parser.add_argument(
            "--wait", action="store_true", help="show progress; exit status 0 only if every host finished"
        )

    def handle(self, *args: Any, workload: str, host: list[str], param: list[str], wait: bool, **options: Any) -> None:
        try:
            params = command_params.read(workload, param)
            wanted = of_hosts(host, "device" if options["distributed"] else "host")
            jobs = launch.launch_selected(
                workload, wanted, params, actor=Actor.of_command(), as_one=options["distributed"]
            )
        except (launch.LaunchRefused, ParamsInvalid) as error:
            raise CommandError(f"nothing was started: {error}") from error
        # self.stdout ends each piece with a line break, which a bar cannot bear.
        console = Console(highlight=False, markup=False)
        for job in jobs:
            console.print(
                f"job {job.pk}: {job.workload} on {job.host.name}, queued. {job.reason}".strip(), soft_wrap=True
            )
        if not wait:
            return
        try:
            ended = follow([job.pk for job in jobs], console)
        except KeyboardInterrupt:
            raise CommandError(_how_to_cancel(jobs), returncode=130) from None
        console.print(result_table(ended))
        if any(job.state != JobState.DONE for job in ended):
            raise CommandError("not every host finished")


def follow(job_ids: list[int], console: Console) -> list[ReferenceJob]:
    """Show the jobs' progress until each has ended and told its energy; returns them in the order given."""
    bar = Progress(
        TextColumn("{task.fields[host]}"),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[steps]}"),
        TimeElapsedColumn(),
        console=console,
    )
    rows: dict[int, TaskID] = {}
    with bar:
        while True:
            found = ReferenceJob.objects.select_related("host", "device").in_bulk(job_ids)
            if gone := [job_id for job_id in job_ids if job_id not in found]:
                raise CommandError(f"job {gone[0]} is known no more: its host was removed")
            jobs = [found[job_id] for job_id in job_ids]
            for job in jobs:
                if job.pk not in rows:
                    rows[job.pk] = bar.add_task("", total=None, host=job.host.name, steps="")
                _show(bar, rows[job.pk], job)
            now = timezone.now()
            if all(_is_told(job, now) for job in jobs):
                return jobs
            sleep(POLL_SECONDS)


def _is_told(job: ReferenceJob, now: datetime) -> bool:
    """Tell whether nothing more is to be expected of a job."""
    if job.state == JobState.LOST:
        return job.ended_at is None or now - job.ended_at > LOST_PATIENCE
    if job.state != JobState.DONE:
        return job.is_final
    return bool(job.energy) or job.ended_at is None or now - job.ended_at > ENERGY_PATIENCE


def _show(bar: Progress, row: TaskID, job: ReferenceJob) -> None:
    words = f"{job.state}, {job.stage}" if job.stage and not job.is_final else str(job.state)
    steps = f"step {job.step}/{job.total_steps}" if job.total_steps else ""
    bar.update(row, description=words, completed=job.step, total=job.total_steps or None, steps=steps)
    if job.is_final and job.state != JobState.LOST:
        bar.stop_task(row)


def _how_to_cancel(jobs: list[ReferenceJob]) -> str:
    pages = ", ".join(f"/reference/{job.pk}/" for job in jobs)
    return f"no longer waiting; the job runs on. Cancel it on its page ({pages}) or by POST /api/v1/reference/jobs/<id>/cancel"
