"""A workload's parameters from a command line, as `--param NAME=VALUE`. Called by the management commands."""

from collections.abc import Sequence

from django.core.management.base import CommandError

from training.workloads.catalog import read_texts


def read(workload: str, given: Sequence[str]) -> dict[str, int | str]:
    """Return the parameters. Raises ParamsInvalid, and CommandError where one is not written as it must be."""
    return read_texts(workload, dict(map(_pair, given)))


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise CommandError(f"--param {text!r} is not written as NAME=VALUE")
    return name.strip(), value
