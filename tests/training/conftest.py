"""Fixtures for the tests of training."""

from tests.training.outbox import outbox

__all__ = ["outbox"]
