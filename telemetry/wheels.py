"""The two wheels that the server offers: the agent for GPU hosts, and the client for training loops. No Django.

Built from this tree by hatchling, without a network, reproducibly: each process of the server gets the same bytes.
Called by the view of /dist/ and by what prints the command for a new host.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]

# What an agent needs of this tree, and nothing of the server.
_AGENT_FILES = (
    "telemetry/__init__.py",
    "telemetry/agent",
    "telemetry/broker/__init__.py",
    "telemetry/broker/full_broker.py",
    "telemetry/broker/transport.py",
    "telemetry/catalog.py",
    "telemetry/message",
    "training/__init__.py",
    "training/host",
    "training/message",
    "training/reference",
    "training/steps/__init__.py",
    "training/steps/block.py",
    "training/steps/datagram.py",
    "training/utilisation/__init__.py",
    "training/utilisation/flops.py",
    "training/workloads",
)
_AGENT: dict[str, Any] = {
    "name": "stepwatt-agent",
    "description": "Stepwatt's agent: hardware telemetry of a GPU host, and reference jobs on it",
    "requires-python": ">=3.11",
    "dependencies": [
        "celery[redis]>=5.6.3,<5.7",
        "kombu>=5.7,<5.8",  # telemetry/broker/full_broker.py reaches into it
        "msgpack>=1.1,<2",
        "zstandard>=0.23,<1",
        "psutil>=7,<8",
        "nvidia-ml-py>=12.575,<14",
        "cryptography>=44",
    ],
    "optional-dependencies": {
        "jobs": ["torch>=2.6,<3"],
        "tpu": ["tpu-info>=0.14,<1"],
        "kubernetes": ["grpcio>=1.60,<2"],
        "amd": ["amdsmi>=6.4"],
    },
    "scripts": {"stepwatt-agent": "telemetry.agent.__main__:main"},
}
_CLIENT: dict[str, Any] = {
    "name": "stepwatt",
    "description": "Step timings of a training loop for Stepwatt: no dependencies, never in the loop's way",
    "requires-python": ">=3.9",
}


@dataclass(frozen=True, slots=True)
class Wheel:
    """`sha256` is the content's, in hexadecimal digits."""

    name: str
    content: bytes
    sha256: str


@cache
def agent_wheel() -> Wheel:
    """Return the agent's wheel; built at the first call, in about a quarter of a second."""
    return _build(_AGENT, {"only-include": list(_AGENT_FILES)})


@cache
def client_wheel() -> Wheel:
    """Return the wheel of the package `stepwatt`."""
    return _build(_CLIENT, {"only-include": ["training/client/stepwatt"], "sources": ["training/client"]})


def offered() -> dict[str, Wheel]:
    """Return the wheels by their file names."""
    return {wheel.name: wheel for wheel in (agent_wheel(), client_wheel())}


def _build(project: dict[str, Any], files: dict[str, Any]) -> Wheel:
    """Return the wheel. hatchling's own settings say what is in it: the tree's pyproject.toml is the server's."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = {**project, "license": own["license"], "license-files": ["LICENSE"]}
    target = {**files, "exclude": ["__pycache__", "*.pyc"], "ignore-vcs": True, "reproducible": True}
    config = {
        "project": {**about, "version": f"{own['version']}+{_build_of(about, files['only-include'])}"},
        "tool": {"hatch": {"build": {"targets": {"wheel": target}}}},
    }
    with TemporaryDirectory(prefix="stepwatt-wheel-") as directory:
        (path,) = WheelBuilder(str(ROOT), config=config).build(directory=directory, versions=["standard"])
        content = Path(path).read_bytes()
    return Wheel(Path(path).name, content, sha256(content).hexdigest())


def _build_of(about: Mapping[str, Any], included: Iterable[str]) -> str:
    """Return what tells builds of one version apart: pip leaves what it has in the same version, whatever is in it."""
    found = sha256(repr(about).encode())
    for path in sorted(path for name in included for path in _sources(ROOT / name)):
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return f"b{found.hexdigest()[:10]}"  # digits alone would be read as a number


def _sources(path: Path) -> Iterable[Path]:
    every = path.rglob("*") if path.is_dir() else [path]
    return (each for each in every if each.is_file() and each.suffix != ".pyc")
