"""Which parts of a bench run: all, or those that an environment variable names. Called by the benches that take long."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from telemetry.bench.figure import BenchFailed, Figure

Part = Callable[[Path], list[Figure]]  # from a directory of its own


def chosen(variable: str, parts: Mapping[str, Part]) -> dict[str, Part]:
    """Return the parts that the variable names, with commas between them; where it is not set, all. Raises BenchFailed."""
    asked = [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]
    if unknown := sorted(set(asked) - set(parts)):
        raise BenchFailed(f"{variable}: there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    return {name: part for name, part in parts.items() if not asked or name in asked}
