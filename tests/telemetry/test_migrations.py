"""What the landed version stored is kept by the migrations, on SQLite and on PostgreSQL, and comes back with the way back.

It is migrated once for all tests, each of which has a copy.
"""

from datetime import UTC, datetime
from functools import cache

import pytest
from django.core.management import call_command
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.loader import MigrationLoader

from fleet.models import Host
from telemetry import vendor_sql
from telemetry.models import AcceptedSequences, Chunk, DirtyRollup, SetAside, StoredBatch
from telemetry.store import partitions
from tests.databases import opened
from tests.factories import make_device

EPOCH, AT = "e" * 32, datetime(2026, 3, 1, tzinfo=UTC)
LANDED = (("fleet", "0006_earlier_keys"), ("telemetry", "0004_newest_sequence"))
SETS_ASIDE = ("telemetry", "0011_health_and_figures")
# {host: (sequence, first, last) of its batches}, ms
STORED = {
    "gpu-a01": [(3, 60_000, 64_000), (4, 65_000, 69_000)],
    "with-holes": [(sequence, 60_000 + sequence, 64_000 + sequence) for sequence in (9, 3, 4, 5, 8)],
    "of-minutes": [(1, 60_000, 64_000), (2, 118_000, 122_000), (3, 600_000, 730_000)],
}


def migrate(*target: str) -> None:
    call_command("migrate", *target, verbosity=0, interactive=False)


@cache
def model_of(app: str, migration: str, name: str) -> type:
    """The model as it was after that migration."""
    return MigrationLoader(None).project_state((app, migration)).apps.get_model(app, name)


@pytest.fixture(scope="module")
def landed(databases, django_db_blocker) -> str:
    """Return the URL of a database of the landed version."""
    url, batches = databases.make(), model_of(*LANDED[1], "Chunk")
    with django_db_blocker.unblock(), opened(url):
        for target in LANDED:
            migrate(*target)
        for name, rows in STORED.items():
            host = model_of(*LANDED[0], "Host").objects.create(name=name)
            batches.objects.bulk_create(
                batches(host_id=host.pk, epoch=EPOCH, sequence=n, start_ms=first, end_ms=last, body=body(name, n))
                for n, first, last in rows
            )
    return url


@pytest.fixture(scope="module")
def of_now(databases, landed, django_db_blocker) -> str:
    """Return the URL of the same, migrated. On the way something was set aside."""
    url = databases.make(like=landed)
    with django_db_blocker.unblock(), opened(url):
        migrate(*SETS_ASIDE)
        host = model_of(*LANDED[0], "Host").objects.only("pk").get(name="gpu-a01")
        model_of(*SETS_ASIDE, "SetAside").objects.create(
            host_id=host.pk, epoch=EPOCH, sequence=3, start_ms=0, end_ms=0, n_values=1, reason="clock",
            received_at=AT, body=b"body 3",
        )  # fmt: skip
        migrate()
    return url


@pytest.fixture
def migrated(databases, of_now, django_db_blocker):
    """Have the test's database be a copy of that."""
    with django_db_blocker.unblock(), opened(databases.make(like=of_now)):
        yield


def body(host: str, sequence: int) -> bytes:
    return f"{host} {sequence}".encode()


def kept(batches: type) -> dict[str, list[tuple[int, int, int]]]:
    """Return what is stored, as in STORED. Fails where a batch has another's body, or another epoch."""
    names, found = dict(model_of(*LANDED[0], "Host").objects.values_list("pk", "name")), {}
    for row in batches.objects.order_by("start_ms"):
        name = names[row.host_id]
        assert (row.epoch, bytes(row.body)) == (EPOCH, body(name, row.sequence))
        found.setdefault(name, []).append((row.sequence, row.start_ms, row.end_ms))
    return found


IN_ORDER = {name: sorted(rows) for name, rows in STORED.items()}


def test_batches_of_the_first_store_are_kept(migrated):
    assert kept(StoredBatch) == IN_ORDER


def test_their_sequences_stay_accepted_with_their_holes(migrated):
    accepted = AcceptedSequences.objects.get(host__name="with-holes")

    assert (accepted.epoch, accepted.ranges, accepted.newest_sequence) == (EPOCH, [[3, 5], [8, 9]], 9)


def test_every_minute_that_they_touch_is_rolled_up_again(migrated):
    marks = DirtyRollup.objects.filter(host__name="of-minutes").order_by("start_ms")

    assert list(marks.values_list("step_seconds", "start_ms")) == [(60, each * 60_000) for each in (1, 2, 10, 11, 12)]


def test_the_way_back_gives_the_first_store_its_batches(migrated):
    for target in reversed(LANDED):
        migrate(*target)

    assert kept(model_of(*LANDED[1], "Chunk")) == IN_ORDER


def test_what_was_set_aside_is_known_by_its_content(migrated):
    assert SetAside.objects.get().digest == SetAside.digest_of(b"body 3")


def test_there_is_no_way_back_from_chunks(migrated):
    host = Host.objects.get(name="gpu-a01")
    Chunk.objects.create(
        device=make_device(host), host=host, start_ms=3_600_000, end_ms=3_600_001, n_values=1, body=b"chunk"
    )

    with pytest.raises(IrreversibleError, match="1 chunks of this store"):
        migrate(*LANDED[1])


def test_a_file_that_keeps_its_free_pages_is_written_anew(migrated):
    assert vendor_sql.gives_back_space()


def test_a_rotated_host_keeps_its_key_of_before(empty_database):
    migrate("fleet", "0005_device_and_clock_events")
    model_of("fleet", "0005_device_and_clock_events", "Host").objects.create(
        name="gpu-a01", previous_key=b"k" * 32, rotated_at=AT
    )

    migrate("fleet", "0006_earlier_keys")

    host = model_of("fleet", "0006_earlier_keys", "Host").objects.get()
    assert host.earlier_keys == [{"key": "6b" * 32, "replaced_ms": int(AT.timestamp() * 1000)}]


def test_the_partitions_of_today_stand_after_the_migration(migrated):
    store_is_partitioned = partitions.are_there()
    assert store_is_partitioned == vendor_sql.is_postgresql()
    if store_is_partitioned:
        assert len(partitions.partitions(partitions.CHUNKS)) == 4
