"""Windows of recorded samples that grow: what two recordings of one device and time make together."""

from datetime import UTC, datetime

import pytest

from telemetry.models import Chunk, StoredBatch
from telemetry.store import compact, recorded, samples
from tests.factories import make_device, make_host
from tests.telemetry.batches import GPU, batch

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)

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


def test_the_shortest_sampling_interval_of_a_window_holds_for_all_of_it(host):
    recorded.keep(host, window(0, 10, sample_seconds=0.1))
    recorded.keep(host, window(0, 20, sample_seconds=10.0))
    assert power(host).interval_ms == 100
