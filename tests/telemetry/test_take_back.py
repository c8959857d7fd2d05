"""Clocks of several hosts and the server's: what is held back, what is set aside, and the way back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import CommandError, call_command

from fleet.models import Device, Event, Host
from telemetry.broker.not_now import NotNow
from telemetry.message.envelope import seal
from telemetry.message.wire import INGEST_TASK
from telemetry.models import AcceptedSequences, DirtyRollup, LatestState, SetAside, StoredBatch
from telemetry.receiving.ingest import ingest_group
from tests.factories import make_host
from tests.telemetry.batches import GPU, payload, take

SLOW = timedelta(minutes=10)

pytestmark = pytest.mark.usefixtures("each_database")


@pytest.fixture
def now():
    return datetime.now(UTC)


def send(now, **ahead_seconds):
    """Ingest a batch of each host at once, whose clock is so much ahead."""
    sealed = []
    for name, seconds in ahead_seconds.items():
        key = Ed25519PrivateKey.generate()
        make_host(name, public_key=key.public_key().public_bytes_raw())
        at_ms = round((now.timestamp() + seconds) * 1000)
        device = replace(GPU, uuid=f"GPU-{name}")
        body = payload([at_ms], {"power_draw_watts": [1]}, host=name, device=device)
        sealed.append(seal(key, INGEST_TASK, name, body))
    ingest_group(sealed, now)


def set_aside(now, numbers=range(3), host="gpu-a01"):
    """Ingest batches of one host while the server is slow; the newest is of now."""
    newest_ms = round(now.timestamp() * 1000)
    for n in numbers:
        at_ms = newest_ms - 1000 * (numbers[-1] - n)
        take(payload([at_ms], {"power_draw_watts": [100 + n]}, sequence=n, host=host), now - SLOW)


def test_nothing_is_accepted_while_most_of_several_hosts_are_ahead(now):
    with pytest.raises(NotNow, match="of 3 hosts 2 are ahead of it, half by 90 s or more"):
        send(now, a=90, b=300, c=0)

    assert not AcceptedSequences.objects.exists()
    assert not SetAside.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.parametrize("others", [{}, {"b": 0, "c": 0}, {"b": 300}, {"b": 300, "c": 0, "d": 0}])
def test_a_host_whose_clock_is_wrong_is_set_aside_at_once(now, others):
    send(now, a=300, **others)

    assert SetAside.objects.filter(host__name="a").exists()
    assert set(StoredBatch.objects.values_list("host__name", flat=True)) == {n for n, s in others.items() if not s}


def test_what_was_set_aside_for_the_servers_clock_is_taken_back(now, capsys):
    set_aside(now)
    call_command("take_back")

    assert capsys.readouterr().out == "gpu-a01: 3 batches were taken back\n"
    assert list(StoredBatch.objects.order_by("sequence").values_list("sequence", flat=True)) == [0, 1, 2]
    assert not SetAside.objects.exists()
    assert DirtyRollup.objects.exists()
    assert Device.objects.get().host.name == "gpu-a01"
    assert LatestState.objects.get().devices[GPU.uuid]["values"] == {"power_draw_watts": 102}


def test_a_host_counts_as_heard_when_its_batches_came(now):
    set_aside(now)
    call_command("take_back")

    assert Host.objects.get().heard_at == now - SLOW


def test_what_was_taken_back_is_taken_once_and_is_not_accepted_again(now, capsys):
    set_aside(now)
    for _again in range(2):
        call_command("take_back")
    set_aside(now)

    assert StoredBatch.objects.count() == 3
    assert AcceptedSequences.objects.get().ranges == [[0, 2]]
    assert not Event.objects.exclude(kind="clock_wrong").exists()
    assert capsys.readouterr().out.endswith("no batches are set aside for a clock\n")


def test_newer_readings_stay_the_newest(now):
    set_aside(now, range(2))
    take(payload([round(now.timestamp() * 1000)], {"power_draw_watts": [300]}, sequence=2), now)
    call_command("take_back")

    assert LatestState.objects.get().devices[GPU.uuid]["values"] == {"power_draw_watts": 300}


def test_what_is_ahead_still_stays_set_aside(now, capsys):
    ahead_ms = round((now + timedelta(hours=1)).timestamp() * 1000)
    take(payload([ahead_ms], {"power_draw_watts": [1]}), now)
    call_command("take_back")

    assert "0 batches were taken back, 1 stay set aside" in capsys.readouterr().out
    assert SetAside.objects.count() == 1


def test_what_was_set_aside_for_another_reason_stays(now):
    at_ms = round(now.timestamp() * 1000)
    for watts in (1, 2):
        take(payload([at_ms], {"power_draw_watts": [watts]}), now)
    call_command("take_back")

    assert SetAside.objects.get().reason.startswith("its number was used")


def test_hosts_and_times_can_be_chosen(now):
    set_aside(now)
    set_aside(now, host="gpu-a02")
    call_command("take_back", host=["gpu-a02"], until=(now - SLOW).isoformat())
    assert not StoredBatch.objects.exists()
    call_command("take_back", host=["gpu-a02"], since=(now - SLOW).isoformat())

    assert set(StoredBatch.objects.values_list("host__name", flat=True)) == {"gpu-a02"}


@pytest.mark.parametrize("option", [{"host": ["nobody"]}, {"since": "soon"}])
def test_what_does_not_exist_is_said(option):
    with pytest.raises(CommandError, match=r"nobody: there is no such host|--since: "):
        call_command("take_back", **option)
