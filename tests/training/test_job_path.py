"""What a job's process can import: its interpreter's own packages and the reference jobs, nothing that lies about."""

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

from training.host.process import START, environment

ORDER = json.dumps({"workload": "none"})


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Return the interpreter of a venv in which nothing is installed."""
    directory = tmp_path_factory.mktemp("job") / "venv"
    venv.create(directory, with_pip=False, symlinks=True)
    return directory / "bin" / "python"


def planted(directory: Path, name: str) -> None:
    (directory / f"{name}.py").write_text(f"open({str(directory / 'was-loaded')!r}, 'w').write({name!r})\n")


def started(python: Path, directory: Path, inherited: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a job as the agent does, with an order that it refuses."""
    reading, writing = os.pipe()
    command = [str(python), str(START), "--parent", str(os.getpid()), "--events-fd", str(writing)]
    done = subprocess.run(
        command, input=ORDER, cwd=directory, env=environment("cpu", "", inherited), pass_fds=[writing],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    done.stdout += os.read(reading, 65_536).decode()
    os.close(reading)
    return done


@pytest.mark.parametrize("name", ["json", "training", "torch", "telemetry", "sitecustomize"])
def test_a_module_that_lies_in_the_jobs_directory_or_on_pythonpath_is_not_loaded(bare_python, tmp_path, name):
    planted(tmp_path, name)

    job = started(bare_python, tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)})

    assert "the order cannot be read" in job.stdout, job.stderr
    assert not (tmp_path / "was-loaded").exists()


def test_the_planted_module_would_be_seen_otherwise(bare_python, tmp_path):
    planted(tmp_path, "sitecustomize")

    subprocess.run([bare_python, "-c", ""], env={"PYTHONPATH": str(tmp_path)}, check=True)

    assert (tmp_path / "was-loaded").exists()


def test_it_sees_the_reference_jobs_and_no_package_of_the_agents_venv(bare_python, tmp_path):
    beside = [
        "celery",
        "msgpack",
        "psutil",
        "telemetry",
        "fleet",
        "training.reference.gpt",
        "training.workloads.catalog",
    ]
    code = f"import importlib.util, runpy; runpy.run_path({str(START)!r})['offer_package']();"
    code += f"print([name for name in {beside!r} if importlib.util.find_spec(name)])"

    seen = subprocess.run(
        [bare_python, "-P", "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )

    assert seen.stdout.strip() == "['training.reference.gpt', 'training.workloads.catalog']"
