"""Fixtures for all tests."""

import pytest
from django.conf import settings

from telemetry import glance

_WHOLE_PRODUCT = ("tests.process", "tests.e2e", "tests.soak", "tests.frameworks")

pytest_plugins = ["tests.nvml_stub.fixtures", "tests.stack", "tests.databases"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For `make test`, which uses two processes: what starts whole programs runs in one of them, in order; else by files."""
    for item in items:
        module = item.module.__name__
        item.add_marker(pytest.mark.xdist_group("whole product" if module.startswith(_WHOLE_PRODUCT) else module))


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords() -> None:
    """Hash passwords weakly: their strength is Django's to test, and costs 0.2 s each."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_glance_of_before() -> None:
    """Tests write over each other's rows, and what a process knows of the fleet it knows by their keys."""
    glance.of_this_process.cache_clear()
