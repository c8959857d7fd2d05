"""What can be called stands in the documentation: every command of the installation, every path of the API."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from fleet.api import api

ROOT = Path(__file__).parents[2]
_OWN = ("fleet", "telemetry", "training")
_STARTED_BY_MAKE = {"up"}


def documented() -> str:
    return "\n".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def paths() -> list[str]:
    """Return the API's paths as docs/api.md writes them: without prefix, parameters by what they name."""
    return [path.removeprefix("/api/v1/") for path in api.get_openapi_schema(path_prefix="/api/v1/")["paths"]]


def written(path: str) -> re.Pattern[str]:
    """Return how a path may be written: whole, or its last part behind the one that it follows (`…/steps`)."""
    fixed = re.sub(r"\\\{[^}]*\\\}", r"\\{[a-z]+\\}", re.escape(path))
    return re.compile(rf"`{fixed}`|`…/{re.escape(path.rsplit('/', 1)[-1])}`" if "/" in path else rf"`{fixed}`")


@pytest.mark.parametrize("command", sorted(name for name, app in get_commands().items() if app.split(".")[-1] in _OWN))
def test_a_command_of_the_installation_is_documented(command):
    assert command in _STARTED_BY_MAKE or re.search(rf"manage\.py {command}\b", documented())


@pytest.mark.parametrize("path", paths())
def test_a_path_of_the_api_stands_in_its_documentation(path):
    assert written(path).search((ROOT / "docs" / "api.md").read_text())
