"""Outside programs that parts of the tests use; `.ci/run` installs them all."""

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = {  # program → Debian package
    "cc": "gcc",
    "chromium": "chromium",
    "epmd": "erlang-base",
    "g++": "g++",
    "git": "git",
    "ip": "iproute2",
    "make": "make",
    "postgres": "postgresql",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "rabbitmq-server": "rabbitmq-server",
    "redis-server": "redis-server",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}


def require(program: str) -> str:
    """Return the program's path; without it the test is skipped, or fails where CI=true."""
    path = shutil.which(program) or _debian_postgresql(program)
    if path:
        return path
    reason = f"{program} is not installed (Debian: apt install {PACKAGES[program]})"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _debian_postgresql(program: str) -> str | None:
    """Return where Debian keeps PostgreSQL's server programs: beside the PATH, one folder a version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return str(found[-1]) if found else None
