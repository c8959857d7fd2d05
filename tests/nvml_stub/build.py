"""Compiles the stub of the driver library from the vendor's public header. Called by the fixtures beside it."""

import importlib.util
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
COMPILER = "cc"


def header_directory() -> Path:
    """Return where package nvidia-nvml-dev (tests/requirements.txt) has put nvml.h."""
    spec = importlib.util.find_spec("nvidia.nvml_dev")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("nvml.h: install tests/requirements.txt (nvidia-nvml-dev-cu12)")
    return Path(spec.submodule_search_locations[0]) / "include"


def build(directory: Path) -> Path:
    """Return the built library, `directory`/libnvidia-ml.so.1. Raises CalledProcessError with cc's words on stderr.

    It has no soname: loaded by its path, it does not become what the rest of the process finds under the driver's name.
    """
    library = directory / "libnvidia-ml.so.1"
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread"]
    include = f"-I{header_directory()}"
    subprocess.run([COMPILER, *flags, include, "-o", str(library), str(SOURCE), "-lm"], check=True, timeout=60)
    return library
