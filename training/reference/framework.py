"""The framework of the job's interpreter: there and whole, or refused with what to do about it. Called by the harness.

Names torch, and imports it only when a job asks for it.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from training.reference.order import CannotRun

_OLDEST = {"torch": (2, 6)}  # what docs/agents.md asks for
_VERSION = re.compile(r"(\d+)\.(\d+)")  # vendors' builds add to it: 2.6.0a0+ecf3bae40a.nv25.1
_ANOTHER = "name an interpreter that has it in STEPWATT_JOB_PYTHON"


@contextmanager
def loaded(name: str) -> Iterator[None]:
    """Import the framework for what is done inside. What fails there with an old one says so, as that may be why.

    Raises CannotRun where there is none, or one that cannot be imported.
    """
    old = _words_of_an_old_one(name, _version(name))
    try:
        yield
    except CannotRun:
        raise
    except Exception as error:
        if old:
            error.add_note(old)
        raise


def _version(name: str) -> str:
    try:
        module = import_module(name)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            build = f"install the {name} build for this host there, or {_ANOTHER}"
            raise CannotRun(f"{name} is not installed for {sys.executable}; {build}") from error
        first_line = next(iter(str(error).splitlines()), "")
        raise CannotRun(
            f"{name} of {sys.executable} cannot be imported ({type(error).__name__}: {first_line}); mend it there, or {_ANOTHER}"
        ) from error
    return str(getattr(module, "__version__", ""))


def _words_of_an_old_one(name: str, version: str) -> str:
    """Return that the framework is older than what the workloads are made for, "" where it is not or nobody knows."""
    found = _VERSION.match(version)
    if found is None or (int(found[1]), int(found[2])) >= _OLDEST[name]:
        return ""
    oldest = ".".join(map(str, _OLDEST[name]))
    return f"{name} {version} of {sys.executable} may be too old: the reference jobs are made for {oldest} and newer"
