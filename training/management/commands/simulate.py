"""`manage.py simulate --hosts H --gpus G`: virtual hosts, marked as such, whose agents' code is the real one."""

import json
import re
import signal
import tempfile
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet import units
from fleet.celery import app
from fleet.joining import server_key
from fleet.up import startup
from telemetry.agent.names import Names, Parcel
from telemetry.agent.outbox import Outbox
from telemetry.agent.sender import Sender
from telemetry.agent.spool import Spool
from telemetry.message import envelope
from telemetry.message.wire import INGEST_QUEUE, INGEST_TASK
from telemetry.simulation import planned
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.fleet import MAX_GPUS, MAX_HOSTS, Shape
from telemetry.simulation.planned import Planned
from telemetry.simulation.post import Post
from training.simulation.jobs import TASKS
from training.simulation.living import Keys, NameTaken, Simulation, enrol, has_reported, report

_FAREWELL_SECONDS = 30.0
_ACKNOWLEDGED_SECONDS = 300.0
_MOST_UNANSWERED = 100_000  # of all hosts; what lies in the broker bounds them before
_SPOOL_BYTES = 2**40  # nothing is to be dropped: the disk is the bound
_MAX_SPAN_SECONDS, _MAX_SPEED = 30 * 86_400.0, 10_000.0
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_CLUSTER = re.compile(r"[^\x00-\x1f]{0,63}")


class Command(BaseCommand):
    help = (
        "Simulate hosts with GPUs: they are enrolled as simulated, sample, batch and send as real agents do, and train, "
        "serve, idle and fail. Until Ctrl-C, or for --seconds, which then end now."
    )
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--hosts", type=_between(1, MAX_HOSTS), required=True, help=f"1 to {MAX_HOSTS}")
        parser.add_argument("--gpus", type=_between(1, MAX_GPUS), required=True, help=f"GPUs a host, 1 to {MAX_GPUS}")
        parser.add_argument("--model", choices=BOARDS, default="h100", help="what the GPUs are (h100)")
        parser.add_argument(
            "--mig", action="store_true", help="the last GPU of each host that serves has two MIG instances"
        )
        parser.add_argument(
            "--idle", action="store_true", help="the hosts do nothing by themselves: for reference jobs"
        )
        parser.add_argument(
            "--fault",
            action="append",
            type=_fault,
            metavar="KIND[,host=N][,gpu=N][,after=SECONDS][,for=SECONDS]",
            help=f"what goes wrong, in place of what the seed has: {', '.join(FaultKind)}; none: nothing. May be given "
            "several times. By default of host 1 and its GPU 0, 60 s after the start, for 600 s",
        )
        parser.add_argument("--seconds", type=_number(1, _MAX_SPAN_SECONDS), help="make so much, ending now, then stop")
        parser.add_argument(
            "--speed", type=_number(0.01, _MAX_SPEED), default=1.0, help="how much faster than time (1)"
        )
        parser.add_argument(
            "--history",
            type=_number(60, _MAX_SPAN_SECONDS),
            metavar="SECONDS",
            help="first make so much of the past, a sample each half minute, unless one of the hosts has reported before",
        )
        parser.add_argument("--seed", type=_between(0, 2**31), default=1, help="the same seed makes the same fleet (1)")
        parser.add_argument("--cluster", type=_matching(_CLUSTER), default="simulated", help="of the hosts (simulated)")
        parser.add_argument(
            "--report",
            type=Path,
            metavar="FILE",
            help="wait until the server has all, and write what each host made (JSON)",
        )
        parser.add_argument("--prefix", type=_matching(_PREFIX), default="sim", help="of the hosts' names (sim)")

    def handle(self, *args: Any, seconds: float | None, speed: float, **options: Any) -> None:
        if seconds is None and speed != 1:
            raise CommandError("--speed needs --seconds: without an end, time cannot run faster than the clock")
        if seconds is not None and options["history"] is not None:
            raise CommandError(
                "--history goes with a fleet that lives on; with --seconds there is nothing else than the past"
            )
        if options["mig"] and not BOARDS[options["model"]].is_divisible:
            raise CommandError(f"--mig: a {options['model']} has no MIG instances")
        shape = _shape(options)
        try:
            startup.check_broker(settings.CELERY_BROKER_URL)
            history = self._history(shape, options["history"])
            keys = enrol(shape, options["cluster"])
        except (startup.StartRefused, NameTaken) as refusal:
            raise CommandError(str(refusal)) from refusal
        with tempfile.TemporaryDirectory(prefix="simulation-", dir=_directory()) as directory:
            times = {"span": seconds, "speed": speed, "history": history}
            self._live(shape, keys, Path(directory), times, options["report"])

    def _history(self, shape: Shape, asked: float | None) -> float:
        """Return how many seconds of the past are made: none where a host has reported, as its samples would stand twice."""
        if asked is None or not has_reported(shape):
            return asked or 0.0
        self.stdout.write(
            f"no past is made: hosts of {shape.prefix}-… have reported before, and keep what they have; "
            "for a whole one remove them first (manage.py remove_host NAME --yes)"
        )
        return 0.0

    def _say_that_it_is_made(self) -> None:
        self.stdout.write("their past is made; from here on they live in real time")

    def _live(
        self, shape: Shape, keys: Keys, directory: Path, times: Mapping[str, Any], report_file: Path | None
    ) -> None:
        line = _Line(shape, keys, directory)
        simulation = Simulation(shape, keys, line, n_unread=_n_unread, arrived=self._say_that_it_is_made, **times)
        takers = {task: partial(simulation.jobs.take, task) for task in TASKS}
        post = Post(app, shape.host_names(), server_key.public_bytes(), directory, line.acknowledge, takers)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stopping(simulation))
        names = shape.host_names()
        self.stdout.write(f"{shape.n_hosts} simulated hosts of {shape.n_gpus} {shape.model}: {names[0]} to {names[-1]}")
        if times["history"]:
            self.stdout.write(f"first their past of {units.duration(times['history'])}, with a sample each half minute")
        line.start()
        post.start()
        try:
            simulation.run()
            line.wait(is_acknowledged=report_file is not None)
        finally:
            post.stop()
            line.stop(patience=_FAREWELL_SECONDS)
        self.stdout.write(line.summary())
        if report_file is not None:
            report_file.write_text(json.dumps(report(simulation.fleet), indent=1) + "\n")


class _Line(Sender):
    """One sender and one spool for all hosts; each batch is signed by its own host's key."""

    def __init__(self, shape: Shape, keys: Keys, directory: Path) -> None:
        def seal_batch(parcel: Parcel) -> bytes:
            return envelope.seal(keys[parcel.host], INGEST_TASK, parcel.host, parcel.body)

        self._spool = Spool(directory, limit_bytes=_SPOOL_BYTES)
        self._box = Outbox(self._spool, n_hosts=shape.n_hosts, most_unanswered=_MOST_UNANSWERED)
        super().__init__(app, lambda _, sealed: sealed, self._box, seal_batch=seal_batch)

    def names(self, host: str, machine: str) -> Names:
        return self._box.names(host, machine)

    def n_unsent(self) -> int:
        return self._box.n_unsent

    def wait(self, *, is_acknowledged: bool) -> None:
        """Wait until the broker has all, and where it is asked until the server has, but not for ever."""
        self._box.is_eager = True
        deadline = time.monotonic() + (_ACKNOWLEDGED_SECONDS if is_acknowledged else _FAREWELL_SECONDS)
        while not (self._box.is_sent and (not is_acknowledged or self._box.n_waiting == 0)):
            if time.monotonic() >= deadline:
                return
            time.sleep(0.1)

    def stop(self, *, patience: float) -> None:
        super().stop(patience=patience)
        self._spool.close()

    def summary(self) -> str:
        told = self._box.cost()
        sent, dropped = told["agent_batches_sent_total"], told["agent_batches_dropped_total"]
        return f"{sent:.0f} batches sent, {dropped:.0f} dropped, {self._box.n_waiting} not acknowledged yet"


def _directory() -> Path:
    """Return where the spool lies while the simulation lives."""
    directory: Path = settings.STEPWATT_DATA_DIR / "simulation"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _n_unread() -> int:
    with app.connection_for_read() as connection:
        try:
            queue = connection.default_channel.queue_declare(queue=INGEST_QUEUE, passive=True)
        except connection.channel_errors:  # nobody has read from it or written to it yet
            return 0
        return int(queue.message_count)


def _stopping(simulation: Simulation) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, frame: FrameType | None) -> None:
        simulation.stop.set()

    return stop


def _fault(text: str) -> Planned | None:
    try:
        return planned.read(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error


def _shape(options: Mapping[str, Any]) -> Shape:
    """Return what was asked for. Raises CommandError where a fault is of what the fleet has not."""
    asked: Sequence[Planned | None] | None = options["fault"]
    faults = None if asked is None else tuple(each for each in asked if each is not None)
    if why_not := planned.why_not(faults or (), options["hosts"], options["gpus"]):
        raise CommandError(f"--fault: {why_not}")
    return Shape(
        n_hosts=options["hosts"], n_gpus=options["gpus"], model=options["model"], prefix=options["prefix"],
        seed=options["seed"], has_instances=options["mig"], is_idle=options["idle"], faults=faults,
    )  # fmt: skip


def _between(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"{text!r}: expected a whole number from {least} to {most}")
        return int(text)

    return read


def _number(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ArgumentTypeError(f"{text!r}: expected a number from {least:g} to {most:g}")
        return value

    return read


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ArgumentTypeError(f"{text!r}: expected what matches {pattern.pattern}")
        return text

    return read
