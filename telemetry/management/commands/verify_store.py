"""`manage.py verify_store`: every chunk and rollup is checked against what it says and what it is made of."""

import sys
import time
from argparse import ArgumentParser
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fleet.models import Host
from telemetry.api.questions import moment
from telemetry.models import MaintenanceRun
from telemetry.store import unreadable, verify, verify_groups
from telemetry.store.chunks import HOUR_MS
from telemetry.store.verify import Checked

RUN = "verification"
_END_MS = 253_402_300_800_000  # the year 10000


class Command(BaseCommand):
    help = (
        "Check every chunk (checksum, times, count) and every rollup against what it is made of, and print what differs, "
        "with its device and time. Changes no sample and no rollup. Exit status 1 where anything differs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host", action="append", default=[], metavar="NAME", help="only this one; may be repeated"
        )
        parser.add_argument(
            "--since", default="", metavar="TIME", help="from the hour of this time on (ISO 8601 or ms)"
        )
        parser.add_argument("--until", default="", metavar="TIME", help="hours that begin before this time")

    def handle(self, *, host: list[str], since: str, until: str, **options: Any) -> None:
        now, began = datetime.now(UTC), time.monotonic()
        since_ms = _milliseconds("--since", since) // HOUR_MS * HOUR_MS if since else 0
        until_ms = _milliseconds("--until", until) if until else _END_MS
        n_chunks = n_buckets = n_wrong = 0
        checks = (self._host(each, since_ms, until_ms, now) for each in _hosts(host))
        for checked in chain(checks, () if host else (verify_groups.check(since_ms, until_ms, now),)):
            n_chunks += checked.n_chunks
            n_buckets += checked.n_buckets
            n_wrong += len(checked.differences)
            for difference in checked.differences:
                self.stdout.write(str(difference))
        note = f"{n_chunks:,} chunks and {n_buckets:,} buckets checked, {n_wrong:,} differences"
        fields = {"started_at": now, "seconds": time.monotonic() - began, "done": n_chunks + n_buckets, "note": note}
        MaintenanceRun.objects.update_or_create(name=RUN, defaults=fields)
        self.stdout.write(note)
        if n_wrong:
            sys.exit(1)

    def _host(self, found: Host, since_ms: int, until_ms: int, now: datetime) -> Checked:
        """Check a host, and note what of it cannot be read: figures of that time are marked, until it can be."""
        checked = verify.host(found, since_ms, until_ms, now)
        unreadable.note(checked.unread, now)
        unreadable.forget_whole(found.pk, since_ms, until_ms, checked.unread)
        return checked


def _hosts(names: list[str]) -> list[Host]:
    found = list(Host.objects.filter(name__in=names) if names else Host.objects.order_by("name"))
    missing = set(names) - {each.name for each in found}
    if missing:
        raise CommandError(f"--host {', '.join(sorted(missing))}: there is no such host")
    return found


def _milliseconds(option: str, text: str) -> int:
    try:
        return int(moment(text).timestamp() * 1000)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from error
