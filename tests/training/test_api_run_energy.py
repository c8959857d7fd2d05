"""Energy by run for scripts. Sign-in and roles: tests/fleet/test_api.py."""

import pytest
from django.test import Client, override_settings

from fleet.environment.tariff import Tariff
from fleet.models import Role
from tests.factories import make_host, move
from tests.people import script
from tests.training.test_run_figures import END_MS, START_MS, a_run, powered

URL = "/api/v1/runs/energy"
pytestmark = pytest.mark.django_db


@pytest.fixture
def api():
    client = script(Role.VIEWER)

    def ask(**parameters):
        response = client.get(URL, {"start": START_MS, "end": END_MS} | parameters)
        return response.status_code, response.json()

    return ask


def test_each_run_has_the_energy_of_its_own_devices_in_its_own_time(api):
    host, devices, _ = a_run(1, run="one", n_steps=300)
    a_run(1, host=host, devices=devices, run="other", first_ms=START_MS + 300_000, n_steps=300)
    powered(host, devices)
    status, answer = api()
    assert (status, answer["count"]) == (200, 2)
    assert {item["name"]: item["joules"] for item in answer["items"]} == {
        "one": pytest.approx(180_000, rel=1e-2), "other": pytest.approx(180_000, rel=1e-2),
    }  # fmt: skip
    assert all(item["cost"] is None and item["shared_with"] == [] for item in answer["items"])


def test_shared_devices_are_shared_out_and_told(api):
    host, devices, _ = a_run(1, run="one")
    a_run(1, host=host, devices=devices, run="other")
    powered(host, devices)
    with override_settings(STEPWATT_TARIFF=Tariff(0.36), STEPWATT_PUE=None):
        _, answer = api()
    assert [item["shared_with"] for item in answer["items"]] in ([["other"], ["one"]], [["one"], ["other"]])
    assert sum(item["joules"] for item in answer["items"]) == pytest.approx(360_000, rel=1e-2)
    assert sum(item["cost"] for item in answer["items"]) == pytest.approx(0.036, rel=1e-2)


def test_what_runs_drew_of_devices_that_have_left_their_host_since_is_shared_out_as_before(api):
    host, devices, _ = a_run(1, run="one")
    a_run(1, host=host, devices=devices, run="other")
    powered(host, devices)
    _, before = api()
    new = make_host("new-name")
    for device in devices:
        move(device.uuid, new, END_MS + 60_000)
    _, after = api()

    assert after["items"] == before["items"]
    assert sum(item["joules"] for item in after["items"]) == pytest.approx(360_000, rel=1e-2)


def test_a_run_without_known_energy_has_null_and_the_reason(api):
    a_run(1)
    _, answer = api()
    [item] = answer["items"]
    assert (item["joules"], item["kwh"]) == (None, None)
    assert "neither an energy counter nor power" in item["why"]


def test_runs_outside_of_the_span_are_not_in_it_and_pages_are(api):
    a_run(1, run="one")
    assert api(start=END_MS + 1000, end=END_MS + 2000)[1]["items"] == []
    assert api(offset=1)[1]["items"] == []


@pytest.mark.parametrize("wrong", [{"end": START_MS}, {"limit": 0}, {"run": "one"}])
def test_what_cannot_be_understood_is_an_error(api, wrong):
    status, answer = api(**wrong)
    assert status == 400
    assert set(answer) == {"error"}


def test_it_needs_a_sign_in():
    assert Client().get(URL).status_code == 401
