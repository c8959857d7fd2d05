"""`manage.py simulate --hosts H --gpus G`: virtual hosts, marked as such, whose agents' code is the real one."""

import re
import signal
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet import startup
from fleet.celery import app
from telemetry.agent.sender import DROPPED_TOTAL, SENT_TOTAL, Sender
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.fleet import MAX_GPUS, MAX_HOSTS, Shape
from telemetry.wire import INGEST_QUEUE
from training.simulation import NameTaken, Simulation, enrol

_FAREWELL_SECONDS = 30.0
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
        parser.add_argument("--seconds", type=_number(1, _MAX_SPAN_SECONDS), help="make so much, ending now, then stop")
        parser.add_argument(
            "--speed", type=_number(0.01, _MAX_SPEED), default=1.0, help="how much faster than time (1)"
        )
        parser.add_argument("--seed", type=_between(0, 2**31), default=1, help="the same seed makes the same fleet (1)")
        parser.add_argument("--cluster", type=_matching(_CLUSTER), default="simulated", help="of the hosts (simulated)")
        parser.add_argument("--prefix", type=_matching(_PREFIX), default="sim", help="of the hosts' names (sim)")

    def handle(self, *args: Any, seconds: float | None, speed: float, **options: Any) -> None:
        if seconds is None and speed != 1:
            raise CommandError("--speed needs --seconds: without an end, time cannot run faster than the clock")
        shape = Shape(options["hosts"], options["gpus"], options["model"], options["prefix"], options["seed"])
        try:
            startup.check_broker(settings.CELERY_BROKER_URL)
            keys = enrol(shape, options["cluster"])
        except (startup.StartRefused, NameTaken) as refusal:
            raise CommandError(str(refusal)) from refusal
        sender = Sender(app, lambda _, sealed: sealed)  # each host has sealed its messages with its own key
        simulation = Simulation(shape, keys, sender.submit, span=seconds, speed=speed, n_unread=_n_unread)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stopping(simulation))
        names = shape.host_names()
        self.stdout.write(f"{shape.n_hosts} simulated hosts of {shape.n_gpus} {shape.model}: {names[0]} to {names[-1]}")
        sender.start()
        try:
            simulation.run()
        finally:
            sender.stop(patience=_FAREWELL_SECONDS)
        cost = sender.cost()
        self.stdout.write(f"{cost[SENT_TOTAL]:.0f} batches sent, {cost[DROPPED_TOTAL]:.0f} dropped")


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
