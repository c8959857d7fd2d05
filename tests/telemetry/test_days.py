"""Days of a zone off the hour, where an hour is all that is left: what of it lies in either day is shared out, and says so."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from fleet.environment.tariff import Band, Tariff
from fleet.models import Device
from telemetry.accounts import accounts, days, fleet, idle
from telemetry.accounts.account import Scope
from telemetry.prices.energy_rates import Rates
from telemetry.store.energy_rows import EnergyRows
from tests.factories import make_device, make_host
from tests.telemetry import test_accounts, test_idle_accounts

KOLKATA = ZoneInfo("Asia/Kolkata")
EVENING = int(datetime(2026, 11, 20, 18, tzinfo=UTC).timestamp() * 1000)  # midnight is at half past
HOUR_MS, KWH = 3_600_000, 3_600_000.0
NIGHT = Rates(Tariff(0.4, KOLKATA, (Band(frozenset(range(7)), 0, 360, 0.1),)), 100.0, None)


def by_day(*, is_old):
    """Return the accounts of an hour before midnight, of the one that it cuts, and of one after it."""
    asked = (EVENING - HOUR_MS, EVENING + 2 * HOUR_MS)
    now = datetime.fromtimestamp(EVENING / 1000 + (400 * 86_400 if is_old else 7200), UTC)
    how = {"scope": Scope.DEVICE, "group_by": "day", "rates": NIGHT, "zone": KOLKATA}
    devices = list(Device.objects.select_related("host"))
    one, other = accounts.accounts(devices, *asked, now, **how), fleet.fleet_accounts(*asked, now, **how)
    assert one == other
    return one


@pytest.fixture
def gpu(db):
    found = make_device(make_host("gpu-a01"), 0)
    for hour in (-1, 0, 1):
        test_accounts.roll_up(found.host, {found: KWH}, start_ms=EVENING + hour * HOUR_MS)
    return found


@pytest.mark.usefixtures("gpu")
def test_the_hour_that_a_midnight_cuts_is_shared_out_where_its_quarters_are_gone():
    found = by_day(is_old=True)

    assert [group.joules for group in found.groups] == [1.5 * KWH, 1.5 * KWH]
    assert [group.estimated_share for group in found.groups] == [pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert [group.covered_share for group in found.groups] == [1, 1]
    assert [group.cost for group in found.groups] == [pytest.approx(0.6), pytest.approx(0.15)]
    assert [group.cost_estimated_share for group in found.groups] == [pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert (found.total.joules, found.total.estimated_share) == (3 * KWH, 0)
    assert found.total.grams_co2 == pytest.approx(sum(group.grams_co2 for group in found.groups))


@pytest.mark.usefixtures("gpu")
def test_nothing_is_shared_out_while_the_quarters_are_there():
    found = by_day(is_old=False)

    assert [group.joules for group in found.groups] == [1.5 * KWH, 1.5 * KWH]
    assert [group.estimated_share for group in found.groups] == [0, 0]


@pytest.mark.django_db
def test_so_is_idle_waste():
    gpu = make_device(make_host("gpu-a01"), 0)
    for hour in (-1, 0):
        test_idle_accounts.roll_up(gpu, {1: 1000}, start_ms=EVENING + hour * HOUR_MS)
    now = datetime.fromtimestamp(EVENING / 1000 + 400 * 86_400, UTC)
    asked = ([gpu], EVENING - HOUR_MS, EVENING + HOUR_MS, now)

    found = idle.idle_accounts(*asked, group_by="day", rates=NIGHT, zone=KOLKATA)

    assert [group.total.joules for group in found.groups] == [1500, 500]
    assert [group.known_seconds for group in found.groups] == [5400, 1800]
    assert [group.total.estimated_share for group in found.groups] == [pytest.approx(1 / 3), 1]
    assert (found.total.total.joules, found.total.total.estimated_share) == (2000, 0)


def test_quarters_of_an_hour_make_up_the_hour():
    values = np.array([[4.0, 8.0]])
    hours = EnergyRows(1, np.array([7]), np.array([EVENING, EVENING + 5 * HOUR_MS]), HOUR_MS, values, values, values)

    whole, cut = days.apart(hours, KOLKATA)
    quarters = cut.in_quarters()

    assert {day: each.starts_ms.tolist() for day, each in whole.items()} == {"2026-11-21": [EVENING + 5 * HOUR_MS]}
    assert quarters.starts_ms.tolist() == [EVENING + 900_000 * n for n in range(4)]
    assert (quarters.measured.sum(), quarters.estimated.tolist()) == (0, [[2.0] * 4])
