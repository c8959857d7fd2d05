"""The settings of energy: what is set is shown, what is missing is asked for; purchase prices by device model."""

import pytest

from fleet.models import AuditEntry, Role
from fleet.tariff import Tariff
from telemetry.models import DevicePrice
from tests.factories import make_gpu_host
from tests.people import signed_in

pytestmark = pytest.mark.django_db
PATH, MODEL = "/settings/energy/", "NVIDIA H100 80GB HBM3"


def test_a_price_is_shown_where_it_is_set_and_asked_for_where_not(settings):
    settings.STEPWATT_TARIFF = Tariff(0.31)

    shown = signed_in().get(PATH).content.decode()

    assert "0.31" in shown
    assert "STEPWATT_PUE is not set" in shown


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
