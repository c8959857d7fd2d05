"""The health that pages and API show follows the open alerts too: nothing is called healthy while something is wrong with it."""

import pytest
from django.utils import timezone

from fleet.models import Device, Event, EventKind, Severity
from telemetry.newest import glance, queries
from telemetry.newest.headlines import headlines
from tests.factories import GPU_READINGS, make_device, make_gpu_host, make_host, make_latest
from tests.people import script, signed_in

pytestmark = pytest.mark.django_db
WARNING, CRITICAL = Severity.WARNING, Severity.CRITICAL


@pytest.fixture
def host():
    """A host with two GPUs that are well by their readings."""
    return make_gpu_host("gpu-a01", 2)


def alert(host, severity, text="slower than its peers", *, device: Device | None = None, **fields) -> Event:
    now = timezone.now()
    return Event.objects.create(
        kind=EventKind.HEALTH, severity=severity, text=text, rule=f"rule_{Event.objects.count()}", host=host, device=device,
        subject=f"device:{device.uuid}" if device else f"host:{host.name}", first_at=now, last_at=now,
        detail={"action": "look at it"}, **fields,
    )  # fmt: skip


def state_of(host):
    return queries.host_state(host, timezone.now())


@pytest.mark.parametrize(("severity", "health"), [(CRITICAL, "crit"), (WARNING, "warn")])
def test_a_device_and_its_host_are_as_ill_as_the_devices_alert(host, severity, health):
    device = host.devices.first()
    alert(host, severity, device=device)
    state = state_of(host)
    ill = state.of(device)

    assert (ill.health, ill.note, ill.advice) == (health, "slower than its peers", "look at it")
    assert (state.health, state.note) == (health, f"{device.title}: slower than its peers")
    assert [d.health for d in state.devices if d is not ill] == ["ok"]


def test_what_somebody_knows_of_is_not_healed_by_that(host):
    alert(host, WARNING, device=host.devices.first(), acknowledged_at=timezone.now(), acknowledged_by="ada")

    assert state_of(host).health == "warn"


@pytest.mark.parametrize("fields", [{"severity": Severity.INFO}, {"severity": WARNING, "resolved_at": timezone.now()}])
def test_what_is_for_information_or_resolved_says_nothing_of_health(host, fields):
    alert(host, device=host.devices.first(), **fields)

    assert state_of(host).health == "ok"


def test_the_gravest_alert_is_told_and_of_equal_ones_the_oldest(host):
    device = host.devices.first()
    for severity, text in ((WARNING, "slow"), (CRITICAL, "broken"), (CRITICAL, "broken too")):
        alert(host, severity, text, device=device)

    assert state_of(host).of(device).note == "broken"


def test_an_alert_of_the_host_raises_the_host_and_none_of_its_devices(host):
    alert(host, WARNING, "its clock is ahead")
    state = state_of(host)

    assert (state.health, state.note) == ("warn", "its clock is ahead")
    assert {device.health for device in state.devices} == {"ok"}


def test_a_silent_device_stays_silent_and_its_alert_raises_its_host(host):
    gone = make_device(host, 7)
    alert(host, CRITICAL, "its host reports, this device does not", device=gone)
    state = state_of(host)

    assert (state.of(gone).health, state.health) == ("silent", "crit")
    assert state.note == f"{gone.title}: its host reports, this device does not"


def test_nobody_is_all_healthy_beside_an_open_alert(host):
    def note():
        return headlines(glance.of_this_process().look(timezone.now()))[0].note

    assert note() == "all healthy"
    alert(host, WARNING, "its clock is ahead")
    assert note() == "1 host warning"
    alert(host, WARNING, device=host.devices.first())
    assert note() == "1 warning"


def test_page_and_api_tell_the_same_health(host):
    device = host.devices.first()
    alert(host, WARNING, device=device)
    page = signed_in().get(f"/devices/{device.uuid}/").context["state"]
    answer = script().get(f"/api/v1/devices/{device.uuid}").json()

    assert (page.health, page.note) == (answer["health"], answer["note"]) == ("warn", "slower than its peers")


@pytest.mark.parametrize(("reasons", "n_marked"), [(0x4, 0), (0x40, 1)])
def test_a_cards_temperature_is_marked_where_heat_slows_the_device(reasons, n_marked):
    host = make_host()
    device = make_device(host)
    make_latest(host, {device: GPU_READINGS | {"clock_event_reasons": reasons}})
    alert(host, WARNING, device=device)
    page = signed_in().get(f"/hosts/{host.name}/").content.decode()

    assert page.count('Temp <b class="warn">') == n_marked
    assert 'class="h" title="' in page
