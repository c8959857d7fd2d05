"""The settings of energy: a form for what the environment does not fix, which all figures follow; purchase prices by model."""

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from django.core.cache import cache

from fleet.environment.tariff import Tariff
from fleet.models import AuditEntry, DeviceKind, Role
from telemetry.models import DevicePrice, EnergyPrice
from telemetry.prices.energy_rates import Rates
from tests.factories import make_device, make_gpu_host, make_host
from tests.people import signed_in
from tests.telemetry.test_accounts import roll_up
from tests.telemetry.test_pages_power import drawing_host, text

pytestmark = pytest.mark.django_db
PATH, MODEL = "/settings/energy/", "NVIDIA H100 80GB HBM3"
SENT = {"price_per_kwh": "0.22", "currency": "EUR", "bands": "", "grams_co2_per_kwh": "380", "pue": "1.25"}


def send(client, **change):
    return client.post(f"{PATH}rates/", SENT | change)


def test_what_is_set_is_stored_audited_and_shown():
    client = signed_in(Role.ADMIN)
    answer = send(client, bands="Europe/Berlin mon-fri 06:00-22:00 0.31")

    assert answer.status_code == 302
    rates = Rates.in_force()
    assert (rates.currency, rates.grams_co2_per_kwh, rates.pue) == ("EUR", 380, 1.25)
    assert (rates.tariff.base_price, rates.tariff.bands[0].price, str(rates.zone)) == (0.22, 0.31, "Europe/Berlin")
    assert AuditEntry.objects.get(action="energy-price.set").detail["price_per_kwh"] == 0.22
    assert 'value="0.22"' in client.get(PATH).content.decode()


def test_an_empty_field_is_not_known_again():
    client = signed_in(Role.ADMIN)
    send(client)
    send(client, **dict.fromkeys(SENT, ""))

    assert Rates.in_force() == Rates(None, None, None, "")
    assert EnergyPrice.objects.count() == 1


def test_what_does_not_change_is_not_audited():
    client = signed_in(Role.ADMIN)
    send(client)
    send(client)

    assert AuditEntry.objects.filter(action="energy-price.set").count() == 1


def test_a_variable_of_the_environment_is_fixed_and_named(settings):
    settings.STEPWATT_TARIFF, settings.STEPWATT_PUE = Tariff(0.31), 1.4
    client = signed_in(Role.ADMIN)
    send(client)

    rates, shown = Rates.in_force(), client.get(PATH).content.decode()
    assert (rates.tariff, rates.pue, rates.grams_co2_per_kwh) == (Tariff(0.31), 1.4, 380)
    assert EnergyPrice.objects.get().price_per_kwh is None
    assert re.search(r'id="f-price_per_kwh" value="0.31" readonly', shown)
    assert "STEPWATT_PRICE_PER_KWH" in shown
    assert "STEPWATT_GRAMS_CO2_PER_KWH" not in shown


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"price_per_kwh": "cheap"}, "expected a number"),
        ({"price_per_kwh": "1_000"}, "expected a number"),
        ({"price_per_kwh": "-1"}, "expected 0 to 1,000,000"),
        ({"price_per_kwh": "nan"}, "expected 0 to"),
        ({"pue": "0.9"}, "expected 1 to 10"),
        ({"price_per_kwh": "", "bands": "UTC 06:00-07:00 0.3"}, "a price is needed"),
        ({"bands": "Mars/Base 06:00-07:00 0.3"}, "expected a time zone and bands"),
        ({"bands": "UTC 07:00-06:00 0.3"}, "does not end after it begins"),
        ({"currency": "many euros and more"}, "12 characters at most"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field_and_kept_to_be_mended(change, words):
    answer = send(signed_in(Role.ADMIN), **change)
    page = answer.content.decode()

    assert answer.status_code == 400
    assert words in page
    assert 'aria-invalid="true"' in page
    assert f'value="{next(iter(change.values()))}"' in page
    assert not EnergyPrice.objects.exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_only_admins_set_prices(role):
    client = signed_in(role)

    assert send(client).status_code == 403
    assert 'id="save-rates"' not in client.get(PATH).content.decode()


def where_it_is_noon() -> str:
    """Return a zone in which today has hours behind it, whenever the test runs."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


def test_every_figure_follows_a_change_at_once():
    cache.clear()
    drawing_host("a", "atlas")
    client, paths = signed_in(Role.ADMIN), ("/fleet/energy/", "/power/?range=1h")
    before = [text(client.get(path)) for path in paths]
    send(client, bands=f"{where_it_is_noon()} 00:00-00:15 0.3")

    tile, power = (text(client.get(path)) for path in paths)
    assert "EUR" not in before[0]
    assert "0.0183 EUR" in tile  # less than a cent is not nothing
    assert "CO₂" in tile
    assert "Cost — set a price per kWh" in before[1]
    assert re.search(r"Cost [\d.]+ EUR", power)
    assert client.get("/api/v1/energy").json()["currency"] == "EUR"


def test_a_purchase_price_is_set_and_forgotten_by_admins():
    make_gpu_host("gpu-a01", 2)
    client = signed_in(Role.ADMIN)
    client.post(f"{PATH}price/", {"model": MODEL, "price": "28000", "years": "4", "used_percent": "80"})

    found = DevicePrice.objects.get()
    assert (found.price, found.years, found.used_ratio) == (28_000, 4, 0.8)
    assert found.per_second_at_work == pytest.approx(28_000 / (4 * 31_557_600 * 0.8))
    assert 'value="28000"' in client.get(PATH).content.decode()
    client.post(f"{PATH}price/", {"model": MODEL, "price": "", "years": "", "used_percent": ""})
    assert not DevicePrice.objects.exists()
    assert AuditEntry.objects.filter(action__startswith="device-price.").count() == 2


@pytest.mark.parametrize(
    "change", [{"price": "0"}, {"price": "nan"}, {"years": ""}, {"used_percent": "120"}, {"model": "unheard of"}]
)
def test_a_price_that_cannot_be_is_refused_in_words(change):
    make_gpu_host("gpu-a01", 1)
    sent = {"model": MODEL, "price": "28000", "years": "4", "used_percent": "80"} | change
    answer = signed_in(Role.ADMIN).post(f"{PATH}price/", sent, follow=True)

    assert "Nothing was changed" in answer.content.decode()
    assert not DevicePrice.objects.exists()


@pytest.mark.parametrize(("kind", "says"), [(DeviceKind.NODE, True), (DeviceKind.CPU, False)])
def test_a_cost_of_more_than_the_devices_energy_says_by_what_it_is(settings, kind, says):
    cache.clear()
    settings.STEPWATT_TARIFF = Tariff(0.2, zone=ZoneInfo(where_it_is_noon()))
    host = make_host("a")
    gpu, other = make_device(host), make_device(host, 1, kind=kind)
    now_ms = int(datetime.now(UTC).timestamp()) // 60 * 60_000
    for minute in range(1, 11):
        roll_up(host, {gpu: 6000.0, other: 9000.0}, start_ms=now_ms - 60_000 * minute, step_seconds=60)

    assert ("by hosts&#x27; meters" in signed_in().get("/fleet/energy/").content.decode()) is says
