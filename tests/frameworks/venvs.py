"""The virtual environments that hold the training frameworks, made by `make frameworks`."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def require(name: str) -> Path:
    """Return the environment's interpreter; without it the test is skipped, or fails where CI=true."""
    directory = ROOT / ".venv-frameworks" / name
    if (directory / "installed").exists():
        return directory / "bin" / "python"
    reason = f"{directory.relative_to(ROOT)} is not installed (make frameworks)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
