"""Fixtures for all tests, and how `make test` divides these among its processes."""

from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from xdist.scheduler import LoadScopeScheduling

from fleet import shared_answer
from telemetry import glance

_WHOLE_PROGRAMS = ("tests/process/", "tests/e2e/", "tests/soak/", "tests/frameworks/")

pytest_plugins = ["tests.nvml_stub.fixtures", "tests.stack", "tests.databases"]


class Grouping(LoadScopeScheduling):
    """Not by marks: xdist 3.8 writes its groups where pytest 9.2 does not read them, and then each test goes anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Return what runs in one process, in its order: all that starts whole programs, else a file's tests."""
    return "whole programs" if nodeid.startswith(_WHOLE_PROGRAMS) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Grouping:
    return Grouping(config, log)


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords() -> None:
    """Hash passwords weakly: their strength is Django's to test, and costs 0.2 s each."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _no_glance_of_before() -> None:
    """Tests write over each other's rows, and what a process knows of the fleet it knows by their keys."""
    glance.of_this_process.cache_clear()
    shared_answer.forget()
    cache.clear()
