"""`manage.py take_back`: batches that were set aside because the server's clock was slow become samples after all."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import QuerySet

from fleet.models import Host
from telemetry.api.questions import moment
from telemetry.models import SetAside
from telemetry.receiving.ingest import CLOCK_AHEAD, take_back

_AT_ONCE = 50  # batches in one transaction


class Command(BaseCommand):
    help = (
        "Store the batches that were set aside because their host's clock was ahead of the server's: for after the server's "
        "own clock was slow, and is right again. What a wrong clock of a host brought would stand at wrong times: leave it "
        "out by --host, --since and --until."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
        )
        parser.add_argument(
            "--since", metavar="TIME", help="only what came from this time on, by the server's clock (ISO 8601 or ms)"
        )
        parser.add_argument("--until", metavar="TIME", help="only what came before this time")

    def handle(self, *, host: list[str], since: str | None, until: str | None, **options: Any) -> None:
        aside = SetAside.objects.filter(reason__startswith=CLOCK_AHEAD)
        if since:
            aside = aside.filter(received_at__gte=_moment("--since", since))
        if until:
            aside = aside.filter(received_at__lt=_moment("--until", until))
        hosts = Host.objects.filter(pk__in=aside.values("host")).order_by("name")
        if unknown := set(host) - set(Host.objects.filter(name__in=host).values_list("name", flat=True)):
            raise CommandError(f"--host {', '.join(sorted(unknown))}: there is no such host")
        n_hosts = 0
        for each in hosts.filter(name__in=host) if host else hosts:
            n_hosts += 1
            n_taken, n_left = _take_back(each, aside.filter(host=each))
            left = f", {n_left:,} stay set aside: ahead of the clock still, or too old" if n_left else ""
            self.stdout.write(f"{each.name}: {n_taken:,} batches were taken back{left}")
        if not n_hosts:
            self.stdout.write("no batches are set aside for a clock")


def _take_back(host: Host, aside: QuerySet[SetAside]) -> tuple[int, int]:
    """Return how many batches were stored, and how many stay."""
    n_taken = n_seen = last = 0
    while rows := list(aside.filter(pk__gt=last).order_by("pk")[:_AT_ONCE]):
        n_taken += take_back(host, rows, datetime.now(UTC))
        n_seen += len(rows)
        last = rows[-1].pk
    return n_taken, n_seen - n_taken


def _moment(option: str, text: str) -> datetime:
    try:
        return moment(text)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error
