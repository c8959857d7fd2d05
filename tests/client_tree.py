"""A copy of what the client's wheel is built from, for tests that change it."""

import shutil
from pathlib import Path

from telemetry import wheels

PACKAGE = "training/client/stepwatt"


def clients_tree(directory: Path) -> Path:
    """Return the directory with the copy in it: what `wheels.ROOT` may be set to. The client's package lies in `PACKAGE`."""
    shutil.copytree(wheels.ROOT / PACKAGE, directory / PACKAGE)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(wheels.ROOT / name, directory / name)
    return directory
