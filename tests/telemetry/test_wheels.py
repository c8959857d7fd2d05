"""What the wheels hold, and that all of it is there: each module is imported with nothing else of this tree in reach."""

import io
import os
import re
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import PurePosixPath

import pytest

from telemetry import wheels
from tests.client_tree import PACKAGE, clients_tree

# Runs without site-packages' .pth files; a finder at the front keeps this tree's own packages from being found elsewhere.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
names = []
for package in sys.argv[2:]:
    module = importlib.import_module(package)
    names += [found.name for found in pkgutil.walk_packages(module.__path__, package + ".")]
frameworks = {"stepwatt.keras", "stepwatt.lightning", "stepwatt.transformers"}  # imported where their library is
for name in names:
    if not name.startswith("training.reference.") and not name.endswith("__main__") and name not in frameworks:
        importlib.import_module(name)
foreign = [n for n, m in sys.modules.items() if n.split(".")[0] in {"telemetry", "training", "fleet", "stepwatt"}
           and not getattr(m, "__file__", sys.argv[1]).startswith(sys.argv[1])]
print(foreign, [n for n in ("fleet", "django.conf", "django.db", "numpy", "torch", "plotly") if n in sys.modules])
"""


def names(wheel: wheels.Wheel) -> list[PurePosixPath]:
    return [PurePosixPath(name) for name in zipfile.ZipFile(io.BytesIO(wheel.content)).namelist()]


def unpacked(wheel: wheels.Wheel, directory) -> str:
    zipfile.ZipFile(io.BytesIO(wheel.content)).extractall(directory)
    return str(directory)


@pytest.mark.parametrize("wheel", [wheels.agent_wheel, wheels.client_wheel])
def test_two_builds_are_the_same_bytes(wheel, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    first, second = wheel(), wheel.__wrapped__()

    assert first == second
    assert first.sha256 == sha256(first.content).hexdigest()


def test_another_build_of_a_version_has_another_name_for_pip_to_install_it(tmp_path, monkeypatch):
    before = wheels.client_wheel()
    monkeypatch.setattr(wheels, "ROOT", clients_tree(tmp_path))

    assert wheels.client_wheel.__wrapped__() == before
    (tmp_path / PACKAGE / "wire.py").write_text("# changed")
    assert wheels.client_wheel.__wrapped__().name != before.name


AGENT_ROOMS = """
telemetry: __init__ agent broker catalog message
telemetry/broker: __init__ full_broker transport
telemetry/message: __init__ acknowledgement batch block codec envelope fields frames header notices wire
training: __init__ host message reference steps utilisation workloads
training/message: __init__ rank_order wire
training/steps: __init__ block datagram
training/utilisation: __init__ flops
"""


def test_the_agents_wheel_holds_the_agent_and_nothing_of_the_server():
    found = [name for name in names(wheels.agent_wheel()) if ".dist-info" not in name.parts[0]]
    lines = [line.split(": ") for line in AGENT_ROOMS.strip().splitlines()]
    paths = {path for name in found for path in (name, *name.parents)}
    rooms = {(room, path.stem) for room, _ in lines for path in paths if str(path.parent) == room}

    assert rooms == {(room, name) for room, listed in lines for name in listed.split()}
    assert {name.parts[0] for name in found} == {"telemetry", "training"}
    assert {name.suffix for name in found} == {".py"}


def test_the_clients_wheel_holds_one_package_and_asks_for_nothing():
    wheel = zipfile.ZipFile(io.BytesIO(wheels.client_wheel().content))
    metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("METADATA"))

    assert sorted(re.sub(r"\+b[0-9a-f]{10}", "+BUILD", name) for name in {n.parts[0] for n in names(wheels.client_wheel())}) == [
        "stepwatt", "stepwatt-0.1.0+BUILD.dist-info",
    ]  # fmt: skip
    assert "Requires-Dist" not in metadata


@pytest.mark.parametrize("extra", ["jobs", "tpu", "amd", "kubernetes"])
def test_what_some_hosts_need_is_an_extra_of_the_agents(extra):
    wheel = zipfile.ZipFile(io.BytesIO(wheels.agent_wheel().content))
    metadata = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("METADATA"))

    assert f"Provides-Extra: {extra}\n" in metadata


def test_the_licence_is_in_both():
    for wheel in wheels.offered().values():
        assert any(name.name == "LICENSE" for name in names(wheel))


@pytest.mark.parametrize(
    ("wheel", "packages"),
    [(wheels.agent_wheel, ["telemetry", "training"]), (wheels.client_wheel, ["stepwatt"])],
    ids=["agent", "client"],
)
def test_every_module_of_a_wheel_finds_what_it_imports(wheel, packages, tmp_path):
    place = unpacked(wheel(), tmp_path / "wheel")
    command = [sys.executable, "-P", "-c", IMPORT_ALL, place, *packages]

    done = subprocess.run(
        command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("[] []\n", "")
