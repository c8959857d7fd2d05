"""Fixtures for the tests of training."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from fleet.models import Role
from tests.people import person, signed_in
from tests.training.outbox import outbox

__all__ = ["outbox"]


@pytest.fixture
def viewer() -> Client:
    return signed_in(Role.VIEWER)


@pytest.fixture
def ada() -> User:
    """Have the operator be there who asks for jobs in tests: what waits is let in only for who may still ask."""
    return person(Role.OPERATOR, "ada")


@pytest.fixture
def operator() -> Client:
    return signed_in(Role.OPERATOR)
