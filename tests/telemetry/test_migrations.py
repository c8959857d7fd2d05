"""What the landed version stored is kept by the migrations, on SQLite and on PostgreSQL, and comes back with the way back."""

from datetime import UTC, datetime

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.loader import MigrationLoader

from fleet.models import Host
from telemetry import partitions, vendor_sql
from telemetry.models import AcceptedSequences, DirtyRollup, SetAside, StoredBatch
from telemetry.vendor_sql import ChunkRow
from tests.factories import make_device

EPOCH = "e" * 32
LANDED = (("fleet", "0006_earlier_keys"), ("telemetry", "0004_newest_sequence"))


def migrate(*target: str) -> None:
    call_command("migrate", *target, verbosity=0, interactive=False)


def model_of(app: str, migration: str, name: str) -> type:
    """The model as it was after that migration."""
    return MigrationLoader(connection).project_state((app, migration)).apps.get_model(app, name)


@pytest.fixture
def landed(empty_database):
    """A database of the landed version with one host; returns the host and the class of its batches."""
    for target in LANDED:
        migrate(*target)
    host = model_of(*LANDED[0], "Host").objects.create(name="gpu-a01")
    return host, model_of(*LANDED[1], "Chunk")


def store(landed, sequence: int, start_ms: int, n_ms: int = 4_000) -> None:
    host, batches = landed
    body = f"body {sequence}".encode()
    batches.objects.create(
        host_id=host.pk, epoch=EPOCH, sequence=sequence, start_ms=start_ms, end_ms=start_ms + n_ms, body=body
    )


def test_batches_of_the_first_store_are_kept(landed):
    store(landed, 3, 60_000)
    store(landed, 4, 65_000)

    migrate()

    columns = ("host_id", "epoch", "sequence", "start_ms", "end_ms")
    rows = StoredBatch.objects.order_by("sequence")
    pk = landed[0].pk
    assert list(rows.values_list(*columns)) == [(pk, EPOCH, 3, 60_000, 64_000), (pk, EPOCH, 4, 65_000, 69_000)]
    assert [bytes(row.body) for row in rows] == [b"body 3", b"body 4"]


def test_their_sequences_stay_accepted_with_their_holes(landed):
    for sequence in (9, 3, 4, 5, 8):
        store(landed, sequence, 60_000 + sequence)

    migrate()

    accepted = AcceptedSequences.objects.get()
    assert (accepted.host_id, accepted.epoch) == (landed[0].pk, EPOCH)
    assert (accepted.ranges, accepted.newest_sequence) == ([[3, 5], [8, 9]], 9)


def test_every_minute_that_they_touch_is_rolled_up_again(landed):
    store(landed, 1, 60_000)
    store(landed, 2, 118_000)
    store(landed, 3, 600_000, n_ms=130_000)

    migrate()

    marks = DirtyRollup.objects.order_by("start_ms").values_list("step_seconds", "start_ms")
    assert list(marks) == [(60, minute * 60_000) for minute in (1, 2, 10, 11, 12)]


def test_the_way_back_gives_the_first_store_its_batches(landed):
    store(landed, 3, 60_000)
    migrate()

    for target in reversed(LANDED):
        migrate(*target)

    (row,) = landed[1].objects.all()
    assert (row.host_id, row.epoch, row.sequence, row.start_ms, row.end_ms) == (landed[0].pk, EPOCH, 3, 60_000, 64_000)
    assert bytes(row.body) == b"body 3"


def test_what_was_set_aside_is_known_by_its_content(landed):
    migrate("telemetry", "0011_health_and_figures")
    before = model_of("telemetry", "0011_health_and_figures", "SetAside")
    before.objects.create(
        host_id=landed[0].pk, epoch=EPOCH, sequence=3, start_ms=0, end_ms=0, n_values=1, reason="clock",
        received_at=datetime(2026, 3, 1, tzinfo=UTC), body=b"body 3",
    )  # fmt: skip

    migrate()

    assert SetAside.objects.get().digest == SetAside.digest_of(b"body 3")


def test_there_is_no_way_back_from_chunks(landed):
    migrate()
    device = make_device(Host.objects.get())
    vendor_sql.insert_chunks([ChunkRow(device.pk, landed[0].pk, 3_600_000, 3_600_001, 1, b"chunk")])

    with pytest.raises(IrreversibleError, match="1 chunks of this store"):
        migrate("telemetry", "0004_newest_sequence")


def test_a_rotated_host_keeps_its_key_of_before(empty_database):
    migrate("fleet", "0005_device_and_clock_events")
    rotated_at = datetime(2026, 3, 1, tzinfo=UTC)
    model_of("fleet", "0005_device_and_clock_events", "Host").objects.create(
        name="gpu-a01", previous_key=b"k" * 32, rotated_at=rotated_at
    )

    migrate("fleet", "0006_earlier_keys")

    host = model_of("fleet", "0006_earlier_keys", "Host").objects.get()
    assert host.earlier_keys == [{"key": "6b" * 32, "replaced_ms": int(rotated_at.timestamp() * 1000)}]


def test_the_partitions_of_today_stand_after_the_migration(empty_database):
    migrate()

    store_is_partitioned = partitions.are_there()
    assert store_is_partitioned == vendor_sql.is_postgresql()
    if store_is_partitioned:
        assert len(partitions.partitions(partitions.CHUNKS)) == 4


def test_a_file_that_keeps_its_free_pages_is_written_anew(landed):
    store(landed, 3, 60_000)

    migrate()

    assert vendor_sql.gives_back_space()
