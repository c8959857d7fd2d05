"""Which CUDA libraries and frameworks the jobs would use: by package metadata, else by shared libraries' file names.

Called at the agent's start, on a thread of its own, and rarely again. Nothing is imported: torch and TensorRT take
seconds and a device.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

_log = logging.getLogger(__name__)

# What is told, and the distributions that bring it, the likeliest first. CUDA 13 and later have no number in the name.
_PACKAGES = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-gpu", "tf-nightly"),
    "jax": ("jax",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11"),
    "cuda_runtime": (
        "nvidia-cuda-runtime",
        "nvidia-cuda-runtime-cu13",
        "nvidia-cuda-runtime-cu12",
        "nvidia-cuda-runtime-cu11",
    ),
    "cudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12", "nvidia-cudnn-cu11"),
    "nccl": ("nvidia-nccl-cu13", "nvidia-nccl-cu12", "nvidia-nccl-cu11"),
}
_LIBRARIES = {"libcudart": "cuda_runtime", "libcudnn": "cudnn", "libnccl": "nccl", "libnvinfer": "tensorrt"}

_ASK_SECONDS = 20.0
_ANSWER_LENGTH = 20_000
_VERSION_LENGTH = 100
_CACHE = Path("/etc/ld.so.cache")
_CACHE_BYTES = 16_000_000
_LIBRARY = re.compile(rb"/[\x20-\x7e]{1,4000}/(libcudart|libcudnn|libnccl|libnvinfer)\.so(?:\.\d+)*(?=\0)")
_FILE_VERSION = re.compile(r"\.so\.(\d+(?:\.\d+)*)")

# Runs in the jobs' interpreter, whatever its version from 3.8 on.
_QUESTION = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def installed(python: str, *, cache: Path = _CACHE, timeout_seconds: float = _ASK_SECONDS) -> dict[str, str]:
    """Return versions by name ("torch", "cudnn", …) as the jobs' interpreter `python` has them.

    Where it has no package, that of the system's shared library; what is nowhere is left out. Takes up to
    `timeout_seconds`, since an interpreter on a network disk may hang.
    """
    wanted = [package for packages in _PACKAGES.values() for package in packages]
    versions = _own(wanted) if _is_this_interpreter(python) else _asked(python, wanted, timeout_seconds)
    found = {}
    for name, packages in _PACKAGES.items():
        version = next((versions[package] for package in packages if package in versions), None)
        if version:
            found[name] = version[:_VERSION_LENGTH]
    return _of_libraries(cache) | found


def _is_this_interpreter(python: str) -> bool:
    """Compare as written: an environment's interpreter is a link to one that has other packages."""
    path = shutil.which(python)
    return path is not None and os.path.abspath(path) == os.path.abspath(sys.executable)  # noqa: PTH100 — links stay


def _own(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _asked(python: str, packages: Iterable[str], timeout_seconds: float) -> dict[str, str]:
    command = [python, "-I", "-c", _QUESTION, *packages]
    try:
        # A session of its own: what the interpreter itself started ends with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        _log.warning("STEPWATT_JOB_PYTHON: %s cannot be started (%s): its packages are not known", python, error)
        return {}
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _log.warning("STEPWATT_JOB_PYTHON: %s does not answer in %g s", python, timeout_seconds)
            return {}
    return _answer(python, output)


def _answer(python: str, output: bytes) -> dict[str, str]:
    try:
        found = json.loads(output[:_ANSWER_LENGTH].decode().strip().rpartition("\n")[2])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        _log.warning("STEPWATT_JOB_PYTHON: %s does not tell its packages: Python 3.8 or newer is needed", python)
        return {}
    return {str(name): version for name, version in found.items() if isinstance(version, str)}


def _of_libraries(cache: Path) -> dict[str, str]:
    """Return versions by the names of the files that the loader's cache leads to, the highest where there are several.

    The cache (ldconfig) names the links, such as libcudnn.so.9; the file behind has the whole version.
    """
    try:
        with cache.open("rb") as file:
            content = file.read(_CACHE_BYTES)
    except OSError as error:
        _log.info("%s is not read (%s): libraries without a package are not known", cache, error.strerror)
        return {}
    highest: dict[str, tuple[int, ...]] = {}
    for match in _LIBRARY.finditer(content):
        name = _LIBRARIES[match[1].decode()]
        version = _version_of(Path(os.fsdecode(match[0])))
        if version:
            highest[name] = max(version, highest.get(name, ()))
    return {name: ".".join(map(str, version)) for name, version in highest.items()}


def _version_of(link: Path) -> tuple[int, ...] | None:
    try:
        file = link.resolve(strict=True)
    except OSError:  # the cache is older than the files
        return None
    found = _FILE_VERSION.search(file.name)
    return tuple(int(part) for part in found[1].split(".")) if found else None
