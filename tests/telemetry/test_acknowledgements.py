"""What hosts are told of their batches: which are stored, once in a while, and only what is so."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.models import Host, Origin
from telemetry.message import acknowledgement
from telemetry.models import AcceptedSequences
from telemetry.orders import acknowledgements, host_orders
from tests.factories import make_host
from tests.telemetry.batches import EPOCH, payload, take

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
T0 = int(NOW.timestamp() * 1000)

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(monkeypatch):
    """Stand at the process's edge: what would go to the broker, as (host, acknowledgement)."""
    found = []

    def send(task, host, body, expires):
        assert task == acknowledgement.ACKNOWLEDGE_TASK
        found.append((host.name, acknowledgement.unpack(body)))
        return True

    monkeypatch.setattr(host_orders, "send", send)
    return found


def store(*numbers, now=NOW):
    for n in numbers:
        take(payload([T0 + 1000 * n], {"power_draw_watts": [1]}, sequence=n, sent_ms=T0 + 1000 * n + 7), now)


def test_a_host_is_told_what_is_stored_with_its_holes_and_both_clocks(sent):
    store(0, 1, 3)
    acknowledgements.send_due(NOW)

    ((name, told),) = sent
    assert (name, told.epoch, told.ranges) == ("gpu-a01", EPOCH, [(0, 1), (3, 3)])
    assert (told.sent_ms, told.received_ms) == (T0 + 3007, T0)


def test_a_host_of_which_nothing_came_since_is_told_nothing(sent):
    store(0)
    for seconds in (0, 20, 40):
        acknowledgements.send_due(NOW + timedelta(seconds=seconds))

    assert len(sent) == 1


def test_a_host_is_told_once_in_15_seconds(sent):
    for seconds in range(0, 61, 5):
        store(seconds, now=NOW + timedelta(seconds=seconds))
        acknowledgements.send_due(NOW + timedelta(seconds=seconds))

    assert len(sent) == 5


def test_a_host_is_told_also_after_the_servers_clock_was_set_back(sent):
    ahead = NOW + timedelta(hours=3)
    store(0, now=ahead)
    acknowledgements.send_due(ahead)
    store(1)
    acknowledgements.send_due(NOW)

    assert [told.ranges for _, told in sent] == [[(0, 0)], [(0, 1)]]


def test_a_host_that_sends_the_same_again_is_told_again(sent):
    store(0)
    acknowledgements.send_due(NOW)
    store(0, now=NOW + timedelta(seconds=30))
    acknowledgements.send_due(NOW + timedelta(seconds=30))

    assert [told.ranges for _, told in sent] == [[(0, 0)], [(0, 0)]]


def test_what_the_broker_does_not_take_is_told_later(sent, monkeypatch):
    store(0)
    with monkeypatch.context() as patched:
        patched.setattr(host_orders, "send", lambda *_: False)
        assert acknowledgements.send_due(NOW) == 0

    assert acknowledgements.send_due(NOW + timedelta(seconds=5)) == 1


def test_of_two_workers_one_tells(sent):
    store(0)
    rows = list(AcceptedSequences.objects.select_related("host"))

    assert [len(acknowledgements._claim(rows)) for _ in range(2)] == [1, 0]


def test_an_imported_host_is_told_nothing(sent):
    host = make_host("log", origin=Origin.IMPORTED)
    AcceptedSequences.objects.create(host=host, epoch=EPOCH, ranges=[[0, 0]], changed_at=NOW)

    assert acknowledgements.send_due(NOW) == 0
    assert Host.objects.count() == 1
    assert sent == []
