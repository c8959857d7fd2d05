"""Every command that the README and docs/ show to be typed is one that exists, with options that it takes."""

import re
import shlex
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).parents[2]
_TYPED = re.compile(r"^(?:\S+ )*(?:\S*/)?manage\.py ([a-z_]+)([^\n#\[)…]*)", re.MULTILINE)


def typed() -> list[tuple[str, str, str]]:
    """Return (page, command, the rest of the line) of the code blocks' lines."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [(page.name, block) for page in pages for block in page.read_text().split("```")[1::2]]
    return [(page, *found) for page, block in blocks for found in _TYPED.findall(block)]


def test_the_readme_shows_the_commands_that_fill_a_fleet():
    assert {"add_host", "import_telemetry", "simulate"} <= {
        command for page, command, _ in typed() if page == "README.md"
    }


@pytest.mark.parametrize(("page", "command", "rest"), [each for each in typed() if not each[2].rstrip().endswith("\\")])
def test_a_command_that_is_shown_takes_its_options(page, command, rest):
    arguments = shlex.split(rest)
    parser = load_command_class(get_commands()[command], command).create_parser("manage.py", command)
    # Else they stand for the reader's own.
    if not any(argument.isupper() or argument in {"H", "G"} for argument in arguments):
        parser.parse_args(arguments)
