"""Fixtures for the tests of training."""

import pytest
from django.test import Client

from fleet.models import Role
from tests.people import signed_in
from tests.training.outbox import outbox

__all__ = ["outbox"]


@pytest.fixture
def viewer() -> Client:
    return signed_in(Role.VIEWER)


@pytest.fixture
def operator() -> Client:
    return signed_in(Role.OPERATOR)
