"""The agent's version: that of its wheel, or of the tree that it is started from."""

import tomllib
from importlib import metadata
from pathlib import Path

WHEEL = "stepwatt-agent"
_PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def version() -> str:
    """Return the version, "unknown" where the agent was installed in a way that says none."""
    try:
        return metadata.version(WHEEL)
    except metadata.PackageNotFoundError:
        pass
    try:
        return str(tomllib.loads(_PYPROJECT.read_text())["project"]["version"])
    except (OSError, KeyError):
        return "unknown"
