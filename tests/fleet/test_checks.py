"""The system checks of an installation."""

from pathlib import Path

import pytest
from django.core.checks import run_checks


def _ours() -> list[str]:
    return [message.id for message in run_checks(tags=["files", "security"]) if message.id.startswith("fleet.")]


def test_a_loopback_installation_is_in_order():
    assert _ours() == []


def test_a_data_directory_that_cannot_be_written_is_an_error(settings):
    settings.STEPWATT_DATA_DIR = Path("/proc")
    assert _ours() == ["fleet.E001"]


@pytest.mark.parametrize("address", ["::", "10.0.0.4", "gpu-server"])
def test_an_open_address_without_https_is_warned_of(settings, address):
    settings.STEPWATT_BIND = (address, 8000)
    assert _ours() == ["fleet.W001"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_the_loopback_needs_no_https(settings, address):
    settings.STEPWATT_BIND = (address, 8000)
    assert _ours() == []


def test_an_open_address_behind_https_is_in_order(settings):
    settings.STEPWATT_BIND, settings.STEPWATT_PUBLIC_URL = ("10.0.0.4", 8000), "https://gpus.example.org"
    assert _ours() == []
