"""MFU of running runs for Prometheus."""

from datetime import timedelta

import pytest

from fleet.models import Device
from telemetry.textformat import render
from tests.telemetry.exposed import NOW, make_host
from tests.telemetry.test_exposition import lints
from tests.training.stored_steps import columns, enter
from tests.training.test_exposition import values
from training.exposition import families

NAME = "stepwatt_training_mfu_ratio"
pytestmark = pytest.mark.django_db


@pytest.fixture
def device() -> Device:
    return make_host()


def run_on(device, *, seconds_ago=1, user="ada", flops=4.947e12, dtype="bf16", n_steps=120):
    """Steps of half a second of eight samples, the newest `seconds_ago`."""
    first_ms = (NOW - timedelta(seconds=seconds_ago)).timestamp() * 1000 - n_steps * 500
    told = columns(*[0.5] * n_steps, first_ms=first_ms, samples=[8.0] * n_steps)
    description = {"flops_per_sample": flops, "dtype": dtype}
    return enter(device.host, told, process=f"p-{user}", user=user, devices=(device.uuid,), description=description)


def exposed(device):
    text = render(families([device.host], NOW), openmetrics=False)
    assert not lints(text)
    return values(text, NAME, "run")


def test_a_running_run_tells_its_mfu(device):
    Device.objects.filter(pk=device.pk).update(model="NVIDIA H100 80GB HBM3")
    run_on(device)
    assert exposed(device) == {"llm": pytest.approx(16 * 4.947e12 / 989.4e12, rel=1e-3)}


@pytest.mark.parametrize("told", [{"flops": None}, {"dtype": None}, {"dtype": "fp8"}, {"seconds_ago": 3600}])
def test_a_run_whose_mfu_is_not_known_or_that_is_over_has_no_series(device, told):
    Device.objects.filter(pk=device.pk).update(model="NVIDIA H100 80GB HBM3")
    run_on(device, **told)
    assert exposed(device) == {}


def test_an_unknown_device_has_no_series(device):
    Device.objects.filter(pk=device.pk).update(model="NVIDIA X1")
    run_on(device)
    assert exposed(device) == {}


def test_of_two_users_runs_with_the_same_labels_neither_speaks_for_both(device):
    Device.objects.filter(pk=device.pk).update(model="NVIDIA H100 80GB HBM3")
    run_on(device)
    run_on(device, user="eve")
    assert exposed(device) == {}
