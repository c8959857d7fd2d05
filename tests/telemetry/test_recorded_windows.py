"""Windows of recorded samples that grow: what two recordings of one device and time make together."""

from datetime import UTC, datetime

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from telemetry import rollups
from telemetry.models import Chunk, StoredBatch
from telemetry.store import compact, recorded, rolled, samples, verify
from telemetry.store.statistics import ENERGY, Field
from tests.factories import make_device, make_host
from tests.telemetry.batches import GPU, batch

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
LATER = datetime(2026, 11, 22, tzinfo=UTC)
HOUR_MS = 3_600_000

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    found = make_host("log", origin="imported")
    make_device(found, uuid=GPU.uuid)
    return found


def window(offset_ms, n, metric="power_draw_watts", watts=300, **kwargs):
    return batch([T0 + offset_ms + 100 * i for i in range(n)], {metric: [watts] * n}, **kwargs)


def power(host):
    return samples.of_device(host.devices.get(), "power_draw_watts", 0, 2**60)


def rows():
    batches = [(row.pk, bytes(row.body)) for row in StoredBatch.objects.order_by("pk")]
    return batches, [(row.pk, bytes(row.body)) for row in Chunk.objects.order_by("pk")]


def test_a_window_grows_by_what_a_later_file_says(host):
    recorded.keep(host, window(0, 100))
    recorded.keep(host, window(50, 100))

    assert power(host).times_ms.tolist() == sorted(T0 + 50 * i for i in range(200))


def test_a_window_may_hold_more_than_one_batch_can(host):
    recorded.keep(host, window(0, 6000))
    recorded.keep(host, window(50, 6000))

    assert power(host).times_ms.size == 12_000


@pytest.mark.parametrize("is_compacted", [False, True])
def test_the_same_window_again_changes_nothing(host, is_compacted):
    recorded.keep(host, window(0, 100))
    if is_compacted:
        compact.compact(NOW, 60)
    before = rows()

    assert not recorded.keep(host, window(0, 100))
    assert not recorded.keep(host, window(1000, 30))
    assert rows() == before


def test_where_two_differ_the_later_one_holds_also_after_compaction(host):
    for watts in (300, 400, 500):
        recorded.keep(host, window(0, 10, watts=watts))
        recorded.keep(host, window(500, 1, watts=watts + 1))
        compact.compact(NOW, 60)

    assert power(host).values.tolist() == [500.0] * 5 + [501.0] + [500.0] * 4
    assert not StoredBatch.objects.exists()


def test_a_number_is_never_given_twice_so_that_no_compaction_takes_one_batch_for_another(host):
    recorded.keep(host, window(0, 10))
    first = StoredBatch.objects.get().sequence
    compact.compact(NOW, 60)
    recorded.keep(host, window(0, 20))

    assert StoredBatch.objects.get().sequence > first


@pytest.mark.parametrize("is_compacted", [False, True])
def test_each_sample_keeps_the_interval_of_its_own_recording_and_of_two_the_shorter(host, is_compacted):
    recorded.keep(host, window(0, 10, sample_seconds=0.1))
    recorded.keep(host, window(0, 20, sample_seconds=10.0))
    if is_compacted:
        compact.compact(NOW, 60)

    assert power(host).intervals_ms.tolist() == [100] * 10 + [10_000] * 10


@st.composite
def files(draw):
    """Several recordings of one device, each at its own interval, some of the same times; with the windows of each apart."""
    found = []
    for _ in range(draw(st.integers(2, 3))):
        every = draw(st.sampled_from([1, 7, 60, 300]))
        first = draw(st.integers(0, 40)) * draw(st.sampled_from([1, 60]))
        times = [T0 + 1000 * (first + every * n) for n in range(draw(st.integers(2, 12)))]
        for start in sorted({at // recorded.WINDOW_MS for at in times}):
            inside = [n for n, at in enumerate(times) if at // recorded.WINDOW_MS == start]
            columns = {"power_draw_watts": [100.0] * len(inside)}
            found.append(batch([times[n] for n in inside], columns, sample_seconds=float(every)))
    return found


@hypothesis_settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(files(), st.data())
def test_whatever_order_recordings_of_several_intervals_come_in_their_energy_is_the_same(windows, data):
    made = []
    for order in (windows, data.draw(st.permutations(windows))):
        with transaction.atomic():
            host = make_host("log", origin="imported")
            make_device(host, uuid=GPU.uuid)
            for each in order:
                recorded.keep(host, each)
                if upkeep := data.draw(st.sampled_from(["", "", "", "roll up", "compact"])):
                    {"roll up": rollups.roll_up, "compact": lambda s, now: compact.compact(now, s)}[upkeep](60, LATER)
            rollups.roll_up(60, LATER)
            table = rolled.of_hosts([host.pk], 3600, 0, 2**60, (ENERGY,))[host.pk]
            made.append((table.keys.fields.tolist(), table.starts_ms.tolist(), table.values.tolist()))
            assert verify.host(host, T0 - HOUR_MS, T0 + 30 * HOUR_MS, LATER).differences == []
            transaction.set_rollback(True)

    assert made[0] == made[1]


@pytest.mark.parametrize(("begins", "ends"), [(0, 400), (590, 610), (7000, 7300)])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_dense_recording_between_slow_samples_leaves_none_of_their_energy_uncovered(host, begins, ends, is_first):
    slow = [(range(start, start + 600, 300), 300.0) for start in range(0, 7200, 600)]
    dense = [(seconds, 1.0) for seconds in by_window(range(begins, ends))]
    for seconds, every in [*dense, *slow] if is_first else [*slow, *dense]:
        times = [T0 + 1000 * second for second in seconds]
        if (seconds, every) in (dense[0], slow[0]):
            rollups.roll_up(60, LATER)
        recorded.keep(host, batch(times, {"power_draw_watts": [100.0] * len(times)}, sample_seconds=every))
    rollups.roll_up(60, LATER)

    table = rolled.of_hosts([host.pk], 3600, 0, 2**60, (ENERGY,))[host.pk]
    covered = table.values[table.keys.fields == Field.COVERED_MILLISECONDS].sum()
    assert covered == 1000 * (max(6900, ends - 1))


def by_window(seconds):
    return [[each for each in seconds if each // 600 == window] for window in sorted({each // 600 for each in seconds})]
