"""Which software the jobs would use: this interpreter, another one, and shared libraries."""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from telemetry.agent import software
from telemetry.agent.software import installed
from telemetry.message.wire import text


@pytest.fixture(scope="module")
def other_python(tmp_path_factory):
    """An environment of its own, with packages that are nothing but their metadata."""
    root = tmp_path_factory.mktemp("jobs")
    venv.create(root, with_pip=False, symlinks=True)
    site = next(root.glob("lib/python*/site-packages"))
    for name, version in (("torch", "2.6.0a0+nv25.01"), ("nvidia-cudnn-cu12", "9.7.0.66"), ("tensorrt-cu12", "10.8.0")):
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return str(root / "bin" / "python")


@pytest.fixture
def no_cache(tmp_path):
    return tmp_path / "ld.so.cache"


def script(path, content):
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)
    return str(path)


class Libraries:
    """A folder of libraries, and the loader's cache that leads to them."""

    def __init__(self, root):
        self.root, self.cache = root, root / "ld.so.cache"
        self.entries = [b"/usr/lib/libc.so.6"]

    def add(self, link, file):
        (self.root / file).write_bytes(b"")
        (self.root / link).symlink_to(file)
        self.entries.append(os.fsencode(self.root / link))
        header = b"glibc-ld.so.cache1.1" + bytes(range(1, 29))
        self.cache.write_bytes(
            header + b"".join(Path(os.fsdecode(e)).name.encode() + b"\0" + e + b"\0" for e in self.entries)
        )


@pytest.fixture
def libraries(tmp_path):
    return Libraries(tmp_path)


def test_of_this_interpreter_it_tells_the_packages_without_another_process(no_cache, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    assert installed(sys.executable, cache=no_cache)["torch"] == importlib.metadata.version("torch")


def test_another_interpreter_is_asked_for_its_own(other_python, no_cache):
    found = installed(other_python, cache=no_cache)
    assert found == {"torch": "2.6.0a0+nv25.01", "cudnn": "9.7.0.66", "tensorrt": "10.8.0"}


def test_an_environments_interpreter_is_not_taken_for_the_one_that_it_links_to(other_python):
    assert os.path.realpath(other_python) == os.path.realpath(sys.executable)
    assert not software._is_this_interpreter(other_python)


@pytest.mark.parametrize(
    ("content", "words"),
    [("exit 3", "does not tell"), ("echo '[1]'", "does not tell"), ("echo '{\"torch\":'", "does not tell")],
)
def test_an_interpreter_that_cannot_answer_is_named(tmp_path, no_cache, caplog, content, words):
    assert installed(script(tmp_path / "python", content), cache=no_cache) == {}
    assert words in caplog.text
    assert "STEPWATT_JOB_PYTHON" in caplog.text


def test_an_interpreter_that_does_not_exist_is_named(no_cache, caplog):
    assert installed("/nowhere/python", cache=no_cache) == {}
    assert "/nowhere/python cannot be started" in caplog.text


def test_what_a_wrapper_prints_before_the_answer_is_passed_over(tmp_path, no_cache):
    answer = json.dumps({"torch": "2.6.0", "jax": 7})
    found = installed(script(tmp_path / "python", f"echo loading modules\necho '{answer}'"), cache=no_cache)
    assert found == {"torch": "2.6.0"}


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_an_interpreter_that_hangs_is_ended_with_what_it_started(tmp_path, no_cache, caplog):
    python = script(tmp_path / "python", f"sleep 60 &\necho $! > {tmp_path}/child\nwait")
    started = time.monotonic()
    assert installed(python, cache=no_cache, timeout_seconds=2.0) == {}
    child = int((tmp_path / "child").read_text())
    while is_running(child):
        assert time.monotonic() - started < 30, "what it started is still there"
        time.sleep(0.01)
    assert "does not answer" in caplog.text


def test_libraries_without_a_package_are_known_by_their_files(libraries):
    libraries.add("libcudnn.so.9", "libcudnn.so.9.1.0")
    libraries.add("libnccl.so.2", "libnccl.so.2.21.5")
    libraries.add("libcudart.so.12", "libcudart.so.12.4.127")
    libraries.add("libnvinfer.so.10", "libnvinfer.so.10.0.1")
    found = installed("/nowhere/python", cache=libraries.cache)
    assert found == {"cudnn": "9.1.0", "nccl": "2.21.5", "cuda_runtime": "12.4.127", "tensorrt": "10.0.1"}


@pytest.mark.parametrize("versions", [("8.9.7", "10.0.0"), ("10.0.0", "8.9.7")])
def test_of_several_files_the_highest_version_counts(libraries, versions):
    for version in versions:
        libraries.add(f"libcudnn.so.{version.partition('.')[0]}", f"libcudnn.so.{version}")
    assert installed("/nowhere/python", cache=libraries.cache) == {"cudnn": "10.0.0"}


def test_parts_of_a_library_are_not_taken_for_it(libraries):
    libraries.add("libcudnn_ops.so.9", "libcudnn_ops.so.9.1.0")
    libraries.add("libnvinfer_plugin.so.10", "libnvinfer_plugin.so.10.0.1")
    assert installed("/nowhere/python", cache=libraries.cache) == {}


def test_a_file_that_is_gone_is_not_told(libraries):
    libraries.add("libnccl.so.2", "libnccl.so.2.21.5")
    (libraries.root / "libnccl.so.2.21.5").unlink()
    assert installed("/nowhere/python", cache=libraries.cache) == {}


def test_the_jobs_package_counts_before_the_systems_library(libraries, other_python):
    libraries.add("libcudnn.so.8", "libcudnn.so.8.9.7")
    assert installed(other_python, cache=libraries.cache)["cudnn"] == "9.7.0.66"


def test_on_this_machine_the_wire_takes_what_it_tells():
    found = installed(sys.executable)
    assert found
    assert all(text(name, "software", 40) and text(version, "software", 200) for name, version in found.items())


WITHOUT_IMPORT = """
import json, sys
from telemetry.agent.software import installed
found = installed(sys.executable)
print(json.dumps([found["torch"], sorted(sys.modules)]))
"""


def test_asking_imports_no_framework():
    result = subprocess.run([sys.executable, "-c", WITHOUT_IMPORT], capture_output=True, check=True, timeout=60)
    version, modules = json.loads(result.stdout)
    assert version == importlib.metadata.version("torch")
    assert not {"torch", "tensorflow", "jax", "tensorrt", "django", "numpy"} & set(modules)
