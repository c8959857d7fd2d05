"""`manage.py verify_store`: what is whole is silent, what is not is told with its device and time."""

import io
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from fleet.models import Host
from telemetry import rollups
from telemetry.models import (
    Chunk,
    DirtyGroup,
    DirtyRollup,
    GroupRollup,
    MaintenanceRun,
    Rollup,
    RollupGroup,
    StoredBatch,
    Unreadable,
)
from telemetry.store import compact, rolled, statistics
from telemetry.store.statistics import Field
from tests.telemetry.batches import GPU, payload, take

HOUR = 3_600_000
DEVICES = "accelerator"
T0 = int(datetime.now(UTC).timestamp()) // 3600 * HOUR - 3 * HOUR
AT = f"{datetime.fromtimestamp(T0 / 1000, UTC):%F %T} UTC"

pytestmark = pytest.mark.django_db(transaction=True)


def verify(*arguments):
    out = io.StringIO()
    try:
        call_command("verify_store", *arguments, stdout=out)
    except SystemExit as end:
        return end.code, out.getvalue()
    return 0, out.getvalue()


def now():
    return datetime.now(UTC)


@pytest.fixture(params=["batches", "chunks"])
def stored(request):
    """75 minutes of a GPU, idle for the last hour, rolled up; not compacted and compacted."""
    for sequence in range(0, 60, 2):
        times = [T0 + sequence * 75_000 + 1_000 * n for n in range(150)]
        columns = {
            "power_draw_watts": [300.0 + n % 7 for n in range(150)],
            "energy_joules_total": [float(300 * (at - T0) // 1000) for at in times],
            "clock_event_reasons": [n // 50 for n in range(150)],
            "gpu_utilization_ratio": [0.9 if sequence < 10 else 0.01] * 150,
        }
        take(payload(times, columns, sequence=sequence), now())
    if request.param == "chunks":
        compact.compact(now(), 60)
    while DirtyRollup.objects.exists():
        before = DirtyRollup.objects.count()
        rollups.roll_up(30)
        if DirtyRollup.objects.count() == before:
            break
    return request.param


def test_a_whole_store_is_found_whole(stored):
    status, told = verify()
    assert status == 0, told
    assert "0 differences" in told
    assert " 0 buckets" not in told
    assert MaintenanceRun.objects.get(name="verification").done >= 60
    (quarter,) = rolled.of_hosts([Host.objects.get().pk], 900, T0 + 1_800_000, T0 + 2_700_000).values()
    assert quarter.values[quarter.keys.fields == Field.IDLE_MILLIJOULES].sum() > 0


def test_a_rollup_that_does_not_fit_its_samples_is_told(stored):
    other = Rollup.objects.get(step_seconds=60, start_ms=T0 + 120_000)
    Rollup.objects.filter(step_seconds=60, start_ms=T0).update(body=other.body)

    status, told = verify()

    assert status == 1
    assert f"{GPU.uuid} at {AT}: " in told
    assert " over 60 s is " in told


def test_a_rollup_that_was_made_before_seconds_of_counters_were_kept_is_whole(stored):
    for row in Rollup.objects.all():
        found = statistics.decode(bytes(row.body), row.start_ms, 1000 * row.step_seconds)
        old = found.keys.fields != Field.GREW_MILLISECONDS
        body = statistics.encode_fresh(
            statistics.ordered(found.keys.table[old], found.values[old], row.start_ms, found.step_ms)
        )
        Rollup.objects.filter(pk=row.pk).update(body=body)

    status, told = verify()
    assert status == 0, told


@pytest.mark.parametrize("step", [60, 900, 3600])
def test_a_lost_rollup_is_told(stored, step):
    Rollup.objects.filter(step_seconds=step, start_ms=T0).delete()
    status, told = verify()
    assert status == 1
    assert f"over {step} s is 0, should be " in told
    assert "(there is no rollup)" in told


def test_a_rollup_that_is_marked_is_not_looked_at(stored):
    Rollup.objects.filter(step_seconds=60, start_ms=T0).update(body=b"torn")
    host = Rollup.objects.first().host
    DirtyRollup.objects.get_or_create(host=host, step_seconds=60, start_ms=T0)
    _, told = verify()
    assert "over 60 s is" not in told


def test_a_corrupt_rollup_is_told(stored):
    Rollup.objects.filter(step_seconds=60, start_ms=T0).update(body=b"torn")
    status, told = verify()
    assert status == 1
    assert f"gpu-a01 at {AT}: a rollup of 60 s is corrupt" in told


@pytest.mark.parametrize("model", [Rollup, GroupRollup])
def test_a_rollup_whose_row_states_another_length_is_told(stored, model):
    rollups.join(60, now())
    row = model.objects.filter(step_seconds=60, n_buckets__gt=1).first()
    model.objects.filter(pk=row.pk).update(n_buckets=row.n_buckets + 1)

    code, out = verify()

    assert code == 1
    assert f"a rollup of 60 s has {row.n_buckets} buckets, its row says {row.n_buckets + 1}" in out


def test_a_corrupt_rollup_of_a_group_is_told(stored):
    group = RollupGroup.objects.filter(kind="fleet").first() or RollupGroup.objects.create(kind="fleet", devices="cpu")
    GroupRollup.objects.create(group=group, step_seconds=60, start_ms=T0, n_buckets=2, body=b"torn")
    status, told = verify()
    assert status == 1
    assert f"{group} at {AT}: a rollup of 60 s is corrupt" in told


@pytest.mark.parametrize("step", [60, 900, 3600])
def test_a_rollup_of_a_group_that_does_not_fit_its_devices_is_told(stored, step):
    rows = GroupRollup.objects.filter(step_seconds=step, group__kind="fleet", group__devices=DEVICES, n_buckets=1)
    row = rows.earliest("start_ms")
    found = statistics.decode(bytes(row.body), row.start_ms, 1000 * step)
    body = statistics.encode_fresh(found._replace(values=found.values + 1))
    rows.filter(start_ms=row.start_ms).update(body=body)

    status, told = verify()

    assert status == 1
    assert f"{row.group} at {datetime.fromtimestamp(row.start_ms / 1000, UTC):%F %T} UTC: " in told
    assert told.count(f" over {step} s is ") == 1


def test_a_lost_rollup_of_a_group_is_told(stored):
    rows = GroupRollup.objects.filter(step_seconds=900, group__kind="model", group__devices=DEVICES)
    gone = rows.earliest("start_ms")
    rows.filter(start_ms=gone.start_ms).delete()

    status, told = verify()

    assert (status, told.count("(there is no rollup)")) == (1, 1)
    assert f"{gone.group} at " in told


def test_a_rollup_of_a_group_that_is_marked_is_not_compared(stored):
    rows = GroupRollup.objects.filter(step_seconds=60, group__kind="fleet", group__devices=DEVICES)
    row = rows.earliest("start_ms")
    rows.filter(start_ms=row.start_ms).delete()
    DirtyGroup.objects.get_or_create(group=row.group, step_seconds=60, start_ms=row.start_ms)

    assert verify()[0] == 0


def test_of_a_corrupt_chunk_rollups_are_no_difference_and_it_is_noted_until_it_is_whole_again():
    take(payload([T0 + 1000 * n for n in range(120)], {"power_draw_watts": [100.0] * 120}), now())
    compact.compact(now(), 60)
    rollups.roll_up(30)
    body = Chunk.objects.get().body
    Chunk.objects.update(body=b"torn and long enough")

    _, told = verify()
    noted = list(Unreadable.objects.values_list("uuid", "start_ms"))
    Chunk.objects.update(body=body)
    verify()

    assert told.count(" at ") == 1
    assert (noted, Unreadable.objects.count()) == ([(GPU.uuid, T0)], 0)


@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_batch_that_cannot_be_read_is_told(is_compacted):
    for sequence in (0, 1):
        part = [T0 + 60_000 * sequence + 1000 * n for n in range(60)]
        take(payload(part, {"power_draw_watts": [100.0] * 60}, sequence=sequence), now())
    rollups.roll_up(30)
    StoredBatch.objects.filter(sequence=0).update(body=b"torn")
    if is_compacted:
        compact.compact(now(), 60)

    status, told = verify()

    assert (status, told.count(" at ")) == (1, 1)
    assert f"gpu-a01 at {AT}: batch 0 of " in told


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"body": b"torn and long enough"}, "the chunk is corrupt: the checksum does not fit"),
        ({"n_values": 1}, "values, its row says 1"),
        ({"end_ms": 1}, "ms, its row says 1"),
    ],
)
def test_a_damaged_chunk_is_told_with_its_device_and_time(damage, words):
    take(payload([T0, T0 + 1_000], {"power_draw_watts": [1, 2]}), now())
    compact.compact(now(), 60)
    Chunk.objects.update(**damage)

    status, told = verify()

    assert status == 1
    assert f"{GPU.uuid} at {AT}: " in told
    assert words in told


def test_lost_samples_are_told_by_what_was_made_of_them(stored):
    Chunk.objects.all().delete()
    StoredBatch.objects.all().delete()

    status, told = verify()

    assert status == 1
    assert f"{GPU.uuid} at {AT}: " in told
    assert "should be 0" in told


def test_only_the_hours_that_are_asked_for_are_checked():
    take(payload([T0, T0 + 1_000], {"power_draw_watts": [1, 2]}), now())
    compact.compact(now(), 60)
    Chunk.objects.update(n_values=9)
    assert verify("--since", str(T0 + HOUR))[0] == 0
    assert verify("--until", str(T0))[0] == 0
    assert verify("--since", str(T0 + 1_800_000), "--host", "gpu-a01")[0] == 1


@pytest.mark.parametrize(("arguments", "words"), [(["--host", "x"], "no such host"), (["--since", "noon"], "--since")])
def test_what_cannot_be_used_is_named(arguments, words):
    with pytest.raises(CommandError, match=words):
        verify(*arguments)
