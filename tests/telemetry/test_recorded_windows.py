"""Windows of recorded samples that grow: what two recordings of one device and time make together."""

from datetime import UTC, datetime

import pytest

from telemetry import received
from telemetry.models import StoredBatch
from telemetry.store import recorded
from tests.factories import make_device, make_host
from tests.telemetry.batches import GPU, batch

T0 = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1000)

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    found = make_host("log")
    make_device(found, uuid=GPU.uuid)
    return found


def window(offset_ms, n, metric="power_draw_watts"):
    return batch([T0 + offset_ms + 100 * i for i in range(n)], {metric: [300] * n}, sequence=T0 // recorded.WINDOW_MS)


def test_a_window_that_would_hold_more_than_can_be_read_is_refused_and_what_was_there_stays(host):
    recorded.keep(host, window(0, 6000))
    before = bytes(StoredBatch.objects.get().body)

    with pytest.raises(recorded.WindowFull, match="12000 samples, more than 10000"):
        recorded.keep(host, window(50, 6000, "temperature_celsius"))
    assert bytes(StoredBatch.objects.get().body) == before


def test_a_window_grows_to_what_can_be_read(host):
    recorded.keep(host, window(0, 6000))
    recorded.keep(host, window(50, 4000))

    assert len(received.unpack(bytes(StoredBatch.objects.get().body)).times_ms) == 10_000
