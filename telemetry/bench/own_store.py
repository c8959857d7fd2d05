"""What the benches ask of the store: every call into the product's inside stands here. Run by own_calls in a private directory.

Never call it where somebody's data is: it enrols made-up hosts. Arguments and answers are plain JSON.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Sum
from numpy.typing import NDArray

from fleet.access.auth import create_token
from fleet.models import Device, Host, Origin, Role
from telemetry import rollups
from telemetry.bench import bodies
from telemetry.bench.content import digest_of
from telemetry.bench.signals import METRICS
from telemetry.catalog import BY_NAME
from telemetry.decoding import matrix, received
from telemetry.models import AcceptedSequences, Chunk, LatestState, StoredBatch
from telemetry.receiving import ingest
from telemetry.store import compact, samples

_BUDGET_SECONDS = 3600.0
_AT_ONCE = 100  # bodies in one transaction
_RAW_TABLES = ("telemetry_storedbatch", "telemetry_chunk", "telemetry_acceptedsequences")


def create() -> None:
    call_command("migrate", verbosity=0)


def broker_url() -> str:
    return str(settings.CELERY_BROKER_URL)


def enrol(names: list[str]) -> dict[str, str]:
    """Make hosts; returns the seed of each one's key, in hex. Real ones: a simulated one's past is no present of it."""
    keys = {name: Ed25519PrivateKey.generate() for name in names}
    now = datetime.now(UTC)
    Host.objects.bulk_create(
        Host(
            name=name, cluster="bench", origin=Origin.REAL, joined_at=now,
            public_key=key.public_key().public_bytes_raw(),
        )
        for name, key in keys.items()
    )  # fmt: skip
    return {name: key.private_bytes_raw().hex() for name, key in keys.items()}


def let_in(username: str, password: str) -> str:
    """Make a user who may log in; returns an API token."""
    get_user_model().objects.create_user(username, password=password)
    return create_token("bench", Role.VIEWER)


def n_accepted(prefix: str = "") -> int:
    """Return how many batches of hosts whose names begin so were accepted, whatever has become of them since."""
    found = AcceptedSequences.objects.filter(host__name__startswith=prefix).values_list("ranges", flat=True)
    return sum(last - first + 1 for ranges in found for first, last in ranges)


def newest_ms(prefix: str = "") -> dict[str, int]:
    """Return the time of each such host's newest readings, as pages and API would show it."""
    return dict(LatestState.objects.filter(host__name__startswith=prefix).values_list("host__name", "at_ms"))


def load(file: str) -> int:
    """Take the bodies that were written there (bodies.py) into the store; returns how many were new."""
    hosts = {host.name: host for host in Host.objects.all()}
    now, n_new = datetime.now(UTC), 0
    for slice_ in _slices(bodies.read(Path(file)), _AT_ONCE):
        with transaction.atomic():
            for name, body in slice_:
                n_new += ingest.ingest(hosts[name], body, now)
    return n_new


def maintain() -> None:
    """Do what beat's tasks do in time: rollups, those of groups, and chunks."""
    rollups.roll_up(_BUDGET_SECONDS)
    rollups.join(_BUDGET_SECONDS)
    compact.compact(datetime.now(UTC), _BUDGET_SECONDS)


def n_values(prefix: str = "") -> int:
    """Return how many readings of such hosts are stored, whether they were compacted or not."""
    chunked = Chunk.objects.filter(host__name__startswith=prefix).aggregate(n=Sum("n_values"))["n"] or 0
    found = StoredBatch.objects.filter(host__name__startswith=prefix)
    bodies = found.values_list("body", flat=True).iterator(chunk_size=200)
    return int(chunked + sum(part.steps.size for body in bodies for part in received.read(bytes(body))[1]))


def digest(uuid: str, start_ms: int, end_ms: int) -> str:
    """Return the digest of all that is stored of a device in that time, as content.digest_of makes it of what was sent."""
    device = Device.objects.select_related("host").get(uuid=uuid)
    found = samples.raw([device], METRICS, start_ms, end_ms)
    series = [(metric, found.get((uuid, metric), samples.Samples.none())) for metric in METRICS]
    return digest_of((each.times_ms, _in_steps(metric, each.values)) for metric, each in series)


def table_bytes() -> dict[str, int]:
    """Return the bytes of samples and of all else in the tables of telemetry, indexes and half-filled pages included."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute("VACUUM")
        cursor.execute(
            "SELECT tbl_name, SUM(pgsize) FROM dbstat JOIN sqlite_master USING (name)"
            " WHERE tbl_name LIKE 'telemetry_%' GROUP BY tbl_name"
        )
        sizes: dict[str, int] = dict(cursor.fetchall())
    raw = sum(sizes.get(table, 0) for table in _RAW_TABLES)
    rolled = sum(size for table, size in sizes.items() if "rollup" in table)
    return {"raw": raw, "rolled": rolled}


def _in_steps(metric: str, values: NDArray[np.float64]) -> matrix.Steps:
    return np.rint(values / BY_NAME[metric].resolution).astype(np.int64)


def _slices(found: Iterator[tuple[str, bytes]], n: int) -> Iterator[list[tuple[str, bytes]]]:
    some: list[tuple[str, bytes]] = []
    for each in found:
        some.append(each)
        if len(some) == n:
            yield some
            some = []
    if some:
        yield some
