"""Samples that cannot be read: whatever adds up energy of their time says so, and nothing else does."""

from datetime import UTC, datetime

import pytest

from fleet.models import Device
from telemetry.accounts import windows
from telemetry.accounts.account import Scope
from telemetry.models import Unreadable
from telemetry.prices.energy_rates import Rates
from telemetry.views.power_panels import _of_account
from tests.factories import make_device, make_host, move
from tests.people import script, signed_in
from tests.telemetry.test_accounts import HOUR_MS, KWH, T0, account, roll_up

pytestmark = pytest.mark.django_db
WORDS = "samples cannot be read"


@pytest.fixture
def gpus():
    """A GPU in each of two clusters; an hour of the first one cannot be read."""
    found = [make_device(make_host(f"gpu-{name}", cluster=name), 0, model=f"H{name}") for name in ("alpha", "beta")]
    for gpu in found:
        roll_up(gpu.host, {gpu: KWH})
    note(found[0], uuid=found[0].uuid)
    return found


def note(gpu, *, uuid="", start_ms=T0, end_ms=T0 + HOUR_MS):
    row = {"uuid": uuid, "start_ms": start_ms, "end_ms": end_ms, "what": "the checksum does not fit"}
    Unreadable.objects.create(host=gpu.host, found_at=datetime(2026, 11, 21, tzinfo=UTC), **row)


def marked(**asked):
    found = account(**asked)
    return found.total.is_unread, [group.key for group in found.groups if group.is_unread]


@pytest.mark.parametrize(
    ("group_by", "key"),
    [("host", "gpu-alpha"), ("cluster", "alpha"), ("model", "Halpha"), ("day", "2026-11-20"), ("label:x", "")],
)
def test_an_account_is_marked_where_samples_of_its_devices_cannot_be_read(gpus, group_by, key):
    assert marked(group_by=group_by) == (True, [key])


def test_a_devices_own_is_and_another_time_is_not(gpus):
    assert marked(group_by="device") == (True, [gpus[0].uuid])
    assert marked(group_by="device", start_ms=T0 + HOUR_MS) == (False, [])


def test_a_batch_that_cannot_be_read_may_have_been_of_any_device_of_its_host(gpus):
    Unreadable.objects.all().delete()
    note(gpus[1])

    assert marked(group_by="device") == (True, [gpus[1].uuid])


def test_what_is_not_in_scope_marks_nothing_unless_it_is_paid_for(gpus):
    assert marked(scope=Scope.NODE) == (False, [])
    assert marked(scope=Scope.NODE, rates=Rates(None, 100.0, None))[0]


def test_of_a_device_that_has_moved_the_host_of_then_is_marked(gpus):
    move(gpus[0].uuid, gpus[1].host, T0 + 2 * HOUR_MS)

    assert marked(group_by="host") == (True, ["gpu-alpha"])


def test_windows_are_marked_that_it_lies_in(gpus):
    gpu = Device.objects.select_related("host").get(pk=gpus[0].pk)

    found = windows.of_windows([gpu], [T0 - HOUR_MS, T0, T0 + 60_000, T0 + HOUR_MS, T0 + 2 * HOUR_MS])

    assert [each.is_unread for each in found] == [False, True, True, False]
    assert windows.by_device(gpus, T0, T0 + 1)[gpu.uuid].unread == WORDS
    assert not windows.of_window([gpus[1]], T0, T0 + HOUR_MS).is_unread


def test_the_api_says_so(gpus):
    answer = script().get(f"/api/v1/energy?start={T0}&end={T0 + HOUR_MS}&group_by=cluster").json()

    assert answer["total"]["unreadable"] == WORDS
    assert {group["key"]: group["unreadable"] for group in answer["groups"]} == {"alpha": WORDS, "beta": None}


def test_the_power_page_and_its_files_do(gpus):
    window = f"from={T0}&to={T0 + HOUR_MS}"
    client = signed_in()
    page, panel = (client.get(f"/power/{part}?{window}").content.decode() for part in ("", "groups/"))

    assert WORDS in page
    assert panel.count(WORDS) == 1
    assert _of_account(account(group_by="cluster").groups[0])[-1] == WORDS
