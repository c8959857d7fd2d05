"""Run by test_ingest_at_once.py as a process of its own: two workers take the first batches of a new host at the same time."""

import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime

import django

django.setup()

from django.core.management import call_command  # noqa: E402 — needs the apps
from django.db import connection  # noqa: E402

from fleet.models import Device, Host  # noqa: E402
from telemetry.models import StoredBatch  # noqa: E402
from telemetry.receiving import ingest  # noqa: E402
from telemetry.store import latest_rows  # noqa: E402
from tests.telemetry.batches import enrolled, payload  # noqa: E402

NOW = datetime.now(UTC)
MEET_SECONDS = 2


def main() -> None:
    call_command("migrate", verbosity=0)
    host, meeting, follow_epoch = enrolled("gpu-a01"), threading.Barrier(2), latest_rows._follow_epoch

    def slowly(*args, **kwargs):
        # Both would stand here at once, each with a row to make, if neither waited for the other.
        with suppress(threading.BrokenBarrierError):
            meeting.wait(MEET_SECONDS)
        return follow_epoch(*args, **kwargs)

    latest_rows._follow_epoch = slowly
    workers = [threading.Thread(target=_take, args=(host, sequence)) for sequence in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = (StoredBatch.objects, Device.objects, Host.objects.exclude(heard_at=None))
    sys.stdout.write(" ".join(str(rows.count()) for rows in found))


def _take(host: Host, sequence: int) -> None:
    at_ms = int(NOW.timestamp() * 1000) - 60_000 * sequence  # of two minutes: on a mark of one they would wait anyway
    ingest.ingest(host, payload([at_ms], {"power_draw_watts": [300]}, sequence=sequence), NOW)
    connection.close()


main()
