"""Both wheels in bare venvs, as a GPU host and a training environment get them: by pip, and nothing else of this tree."""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from telemetry import wheels
from tests.client_tree import PACKAGE, clients_tree
from tests.telemetry.test_backend_tpu import DUTY, Runtime, add_chip

PINNED = (wheels.ROOT / "requirements.txt").read_text().splitlines()
MODULES = "import importlib.util, json; print(json.dumps([n for n in {names!r} if importlib.util.find_spec(n)]))"
INSTALLED = """
import json
from importlib import metadata
print(json.dumps({d.name.lower(): sorted({f.parts[0] for f in d.files or ()}) for d in metadata.distributions()}))
"""

TPU = """
import sys
from pathlib import Path
from telemetry.agent.backends.protocol import BackendUnavailable
from telemetry.agent.backends.tpu import TpuBackend
root, address = Path(sys.argv[1]), sys.argv[2]
backend = TpuBackend(root, sys=root / "sys", proc=root / "proc", address=address)
try:
    backend.open()
    print([source.read()["gpu_utilization_ratio"] for source in backend.sources()])
except BackendUnavailable as missing:
    print(missing)
"""
AMD = """
import sys
from pathlib import Path
from telemetry.agent.backends.amd import AmdBackend
from telemetry.agent.backends.protocol import BackendUnavailable
try:
    AmdBackend(Path(sys.argv[1])).open()
except BackendUnavailable as missing:
    print(missing)
"""


class Venv:
    """A venv with one of the wheels in it; nothing of the caller's environment but what pip needs."""

    def __init__(self, directory: Path, wheel: wheels.Wheel, *options: str, extras: str = "") -> None:
        venv.create(directory / "venv", symlinks=True)
        self.directory, self.bin = directory, directory / "venv" / "bin"
        (directory / wheel.name).write_bytes(wheel.content)
        self.source = f"{(directory / wheel.name).as_uri()}#sha256={wheel.sha256}"
        self.install(*options, f"stepwatt-agent[{extras}] @ {self.source}" if extras else self.source)

    def install(self, *arguments: str) -> None:
        """Let the caller's pip install into the venv, as it does into any: a pip in each takes longer than all else."""
        pip = [sys.executable, "-m", "pip", "--python", self.bin / "python", "--quiet", "--disable-pip-version-check"]
        self._run([*pip, "install", *arguments])

    def run(self, program: str, *arguments: str) -> str:
        """Return what the program said on both outputs."""
        return self._run([self.bin / program, *arguments])

    def _run(self, command: Sequence[str | Path]) -> str:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEPWATT_", "PYTHON", "DJANGO_"))
        }
        done = subprocess.run(
            command, cwd=self.directory, env=kept, capture_output=True, text=True, check=False, timeout=600
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def importable(self, *names: str) -> list[str]:
        return json.loads(self.run("python", "-c", MODULES.format(names=names)))

    def files(self) -> set[str]:
        """Return the top-level names that lie in site-packages."""
        (site,) = self.bin.parent.glob("lib/python*/site-packages")
        return {path.name for path in site.iterdir()} - {"__pycache__"}


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Return the agent with its dependencies, from the package index that pip is set up for."""
    return Venv(tmp_path_factory.mktemp("agent"), wheels.agent_wheel())


@pytest.fixture(scope="module")
def agent_for_tpu_and_amd(tmp_path_factory):
    return Venv(tmp_path_factory.mktemp("agent-extras"), wheels.agent_wheel(), extras="tpu,amd")


@pytest.fixture(scope="module")
def bare_agent(tmp_path_factory):
    return Venv(tmp_path_factory.mktemp("bare-agent"), wheels.agent_wheel(), "--no-deps")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return Venv(tmp_path_factory.mktemp("client"), wheels.client_wheel())


def test_the_agents_wheel_adds_two_packages_and_its_command(bare_agent, client):
    assert bare_agent.files() - client.files() == {
        "telemetry",
        "training",
        f"{wheels.agent_wheel().name.partition('-py3')[0]}.dist-info",
    }
    assert (bare_agent.bin / "stepwatt-agent").exists()


def test_the_clients_wheel_adds_one_package(bare_agent, client):
    assert client.files() - bare_agent.files() == {
        "stepwatt",
        f"{wheels.client_wheel().name.partition('-py3')[0]}.dist-info",
    }


def test_pip_takes_a_later_build_of_the_same_version(tmp_path, monkeypatch):
    environment = Venv(tmp_path, before := wheels.client_wheel())
    (tmp_path / "tree").mkdir()
    monkeypatch.setattr(wheels, "ROOT", tree := clients_tree(tmp_path / "tree"))
    (tree / PACKAGE / "later.py").touch()
    later = wheels.client_wheel.__wrapped__()
    (tmp_path / later.name).write_bytes(later.content)
    environment.install("--no-index", f"{(tmp_path / later.name).as_uri()}#sha256={later.sha256}")

    assert environment.importable("stepwatt.later") == ["stepwatt.later"]
    assert before.name.partition("+")[0] == later.name.partition("+")[0]


def test_nothing_of_the_server_is_in_the_agents_wheel(bare_agent):
    (site,) = bare_agent.bin.parent.glob("lib/python*/site-packages")
    found = {str(path.relative_to(site)) for name in ("telemetry", "training") for path in (site / name).rglob("*.py")}

    assert "telemetry/agent/app.py" in found
    assert not [
        name for name in found if name.split("/")[-1] in {"models.py", "apps.py", "urls.py", "admin.py", "queries.py"}
    ]
    assert not [name for name in found if {"migrations", "views", "management", "store"} & set(name.split("/"))]


def test_the_agents_command_runs(agent):
    assert re.fullmatch(r"stepwatt-agent 0\.1\.0\+b[0-9a-f]{10}\n", agent.run("stepwatt-agent", "--version"))
    assert "{join,run,release,resume,print-unit,rotate-key}" in agent.run("stepwatt-agent", "--help")


def test_neither_django_nor_plotly_nor_torch_comes_with_the_agent(agent):
    foreign = ("django", "plotly", "torch", "numpy", "fleet", "hatchling", "psycopg", "uvicorn", "stepwatt")

    assert agent.importable(*foreign, "telemetry.agent.app") == ["telemetry.agent.app"]


@pytest.fixture
def tpu(tmp_path):
    """Return the arguments of a script that looks for TPUs: one chip, and a workload that has it at 97.5 %."""
    add_chip(tmp_path, "0000:00:04.0", group=0)
    runtime = Runtime()
    runtime.metrics[DUTY] = [(0, 97.5)]
    yield str(tmp_path), f"127.0.0.1:{runtime.port}"
    runtime.stop()


def test_with_the_extra_tpu_the_agent_reads_a_tpu(agent_for_tpu_and_amd, tpu):
    assert agent_for_tpu_and_amd.run("python", "-c", TPU, *tpu) == "[0.975]\n"


def test_without_the_extra_tpu_the_agent_says_what_to_install(agent, tpu):
    assert "pip install 'stepwatt-agent[tpu]'" in agent.run("python", "-c", TPU, *tpu)


def test_with_the_extra_amd_only_rocms_own_library_is_missing(agent_for_tpu_and_amd, tmp_path, monkeypatch):
    (tmp_path / "libamd_smi.so").write_text("no library")  # hides a real one of the machine
    monkeypatch.delenv("ROCM_HOME", raising=False)
    for name in ("LD_LIBRARY_PATH", "ROCM_PATH"):
        monkeypatch.setenv(name, str(tmp_path))

    assert "'libamd_smi.so'): no ROCm here" in agent_for_tpu_and_amd.run("python", "-c", AMD, str(tmp_path))


def test_without_the_extra_amd_the_bindings_are_missing(agent, tmp_path):
    assert "bindings are not installed" in agent.run("python", "-c", AMD, str(tmp_path))


def test_the_extra_jobs_takes_the_torch_that_the_tree_is_tested_with(agent, tmp_path):
    """Resolved, not installed: torch takes a gigabyte. The other pins hold as well: host and server can have one set."""
    report, pins = tmp_path / "report.json", str(wheels.ROOT / "requirements.txt")
    source = f"stepwatt-agent[jobs] @ {agent.source}"

    agent.install("--dry-run", "--ignore-installed", "--report", str(report), "--constraint", pins, source)

    taken = {
        found["metadata"]["name"].lower(): found["metadata"]["version"]
        for found in json.loads(report.read_text())["install"]
    }
    assert f"torch=={taken['torch'].partition('+')[0]}" in PINNED
    assert not {"django", "plotly", "numpy", "uvicorn"} & set(taken)


def test_the_agent_starts_as_far_as_its_membership(agent, tmp_path):
    command, env = [agent.bin / "stepwatt-agent", "run"], {"STEPWATT_DATA_DIR": str(tmp_path)}

    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.split(":")[:2]) == (1, ["stepwatt-agent", " not joined"])


def test_the_unit_names_the_installed_command(agent):
    assert f"ExecStart={agent.bin}/stepwatt-agent run" in agent.run("stepwatt-agent", "print-unit")


def test_the_client_brings_nothing_along(client):
    installed = json.loads(client.run("python", "-c", INSTALLED))

    assert set(installed) == {"stepwatt"}
    assert client.run("python", "-c", "import stepwatt; stepwatt.run('r').step().__enter__(); print('ok')") == "ok\n"


def test_a_wheel_whose_sha256_differs_is_not_installed(tmp_path):
    wheel = wheels.client_wheel()
    changed = wheels.Wheel(wheel.name, wheel.content, "0" * 64)

    with pytest.raises(AssertionError, match=r"(?i)do not match the hashes|hash"):
        Venv(tmp_path, changed)
