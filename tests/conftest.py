"""Fixtures for all tests."""

pytest_plugins = ["tests.nvml_stub.fixtures", "tests.stack"]
