"""What can be called stands in the documentation, and what stands there can be called.

Commands, variables, targets of make, pages, the API's paths, files of this tree, and where links lead to.
"""

import fnmatch
import re
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.urls import resolve

from fleet.api.api import api

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_OWN = ("fleet", "telemetry", "training")
_STARTED_BY_MAKE = {"up"}
_VARIABLE = re.compile(r"`(?:(STEPWATT_[A-Z0-9_]+)|…(_[A-Z0-9]+))`|\b(STEPWATT_[A-Z0-9_]+)")
_OF_THE_MACHINE = ("/dev/", "/etc/", "/opt/", "/proc", "/run/", "/sys/", "/var/")


def documented() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def variables() -> set[str]:
    """Return the variables of the environment that the product reads; those of benches are told in their modules."""
    files = [file for package in _OWN for file in (ROOT / package).rglob("*.py") if "bench" not in file.parts]
    named = {name for file in files for name in re.findall(r'"(STEPWATT_[A-Z0-9_]+)"', file.read_text())}
    return {name.removesuffix("_FILE") for name in named}


def documented_variables() -> set[str]:
    """Return those of the documentation; after one with its whole name, `…_1M` says how another ends."""
    found, whole = set(), ""
    for named, ending, bare in _VARIABLE.findall(documented()):
        whole = named or bare or whole.rsplit("_", 1)[0] + ending
        found.add(whole.removesuffix("_FILE"))
    return found


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def links() -> list[tuple[Path, str]]:
    """Return the links to files and headings of this tree, each with the page that it stands in."""
    return [(page, to) for page in PAGES for to in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in to]


def headings(page: Path) -> set[str]:
    """Return what links may name of a page: its headings in lower case, hyphens for spaces, without other signs."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def files(page: Path) -> set[str]:
    """Return the files and folders of this tree that a page names with a whole path; `*` stands for any."""
    tops = "|".join((*_OWN, "docs", "static", "templates", "tests"))
    return set(re.findall(rf"`((?:{tops})/(?:[\w*-]+/)*(?:[\w*-]+\.\w+)?)`", page.read_text()))


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


def test_a_command_that_is_named_exists():
    assert set(re.findall(r"manage\.py ([a-z_]+)", documented())) <= set(get_commands())


def test_each_variable_that_is_read_is_documented_and_each_documented_one_is_read():
    in_benches = {name for name in documented_variables() if name.startswith("STEPWATT_BENCH_")}

    assert documented_variables() - in_benches == variables()
    benches = "".join(file.read_text() for package in _OWN for file in (ROOT / package).rglob("bench/*.py"))
    assert [name for name in in_benches if name not in benches] == []


def test_each_target_of_make_is_documented_and_each_documented_one_exists():
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", documented(), re.MULTILINE)) == targets()


def test_a_page_that_is_named_exists_and_each_page_of_the_navigation_is_named():
    named = {path for path in re.findall(r"`(/[^`\s]*)`", documented()) if not path.startswith(_OF_THE_MACHINE)}
    for path in named:
        resolve(re.sub(r"<[a-z]+>", "1", path))
    navigation = (ROOT / "templates" / "partials" / "_nav.html").read_text()
    links = re.findall(r'class="item" href="([^"{]+)', navigation)  # what may follow is the chosen cluster
    assert len(links) > 8
    assert set(links) <= named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_file_that_is_named_exists(page):
    assert [name for name in files(page) if not any(ROOT.glob(name.rstrip("/")))] == []


def test_each_bare_name_of_the_map_of_the_code_is_a_file_of_it():
    names = set(re.findall(r"`([\w*]+\.(?:py|js|css))`", (ROOT / "docs" / "code.md").read_text()))
    there = {file.name for package in (*_OWN, "static") for file in (ROOT / package).rglob("*.*")}

    assert len(names) > 20
    assert [name for name in names if not fnmatch.filter(there, name)] == []


@pytest.mark.parametrize("words", ["join", "run", "release", "resume", "print-unit", "rotate-key"])
def test_what_the_agents_own_command_can_do_is_documented(words):
    assert re.search(rf"(stepwatt-agent|…) {words}\b", documented())


@pytest.mark.parametrize(("page", "to"), links(), ids=lambda each: each.name if isinstance(each, Path) else each)
def test_a_link_leads_to_a_file_and_a_heading_that_exist(page, to):
    name, _, heading = to.partition("#")
    target = page.parent / name if name else page

    assert target.is_file()
    assert not heading or heading in headings(target)
