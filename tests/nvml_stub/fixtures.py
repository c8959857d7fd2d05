"""pytest fixtures of the stubbed driver; tests/conftest.py names this module in `pytest_plugins`.

`nvml_library` is the built library, `nvml_stub` a driver of its own for one test: in this process through pynvml's real
ctypes path, in a child through `environment()`.
"""

import ctypes
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from tests.nvml_stub.build import COMPILER, build

_THREADS = {"nvml-events", "sample", "sample-end"}


class StubDriver:
    """Writes the control file, whose grammar is in README.md. Devices are named by number, not by present index."""

    def __init__(self, library: Path, control: Path) -> None:
        self._library = library
        self._control = control
        self._lines: list[str] = []
        self.clear()

    def environment(self, *, devices: int = 8) -> dict[str, str]:
        """Return what a child process needs to find this driver in the place of the real one."""
        return {
            "LD_LIBRARY_PATH": str(self._library.parent),
            "STEPWATT_NVML_STUB_CONTROL": str(self._control),
            "STEPWATT_NVML_STUB_DEVICES": str(devices),
        }

    def clear(self) -> None:
        """Take every fault back."""
        self.write([])

    def write(self, lines: list[str]) -> None:
        """Make these the control file's lines, at once: the stub never sees half a file."""
        self._lines = list(lines)
        draft = self._control.with_suffix(".draft")
        draft.write_text("".join(f"{line}\n" for line in lines))
        draft.replace(self._control)

    def add(self, line: str) -> None:
        self.write([*self._lines, line])

    def lose(self, device: int) -> None:
        self.add(f"lost {device}")

    def remove(self, device: int) -> None:
        self.add(f"removed {device}")

    def require_reset(self, device: int) -> None:
        self.add(f"reset_required {device}")

    def unsupport(self, device: int | str, call: str) -> None:
        self.add(f"unsupported {device} {call}")

    def forbid(self, device: int | str, call: str) -> None:
        self.add(f"no_permission {device} {call}")

    def fail(self, device: int | str, call: str, code: int) -> None:
        self.add(f"fail {device} {call} {code}")

    def slow(self, device: int | str, call: str, milliseconds: int) -> None:
        self.add(f"slow {device} {call} {milliseconds}")

    def sentinel(self, device: int | str, call: str) -> None:
        self.add(f"sentinel {device} {call}")

    def answer(self, device: int | str, call: str, raw: int) -> None:
        self.add(f"answer {device} {call} {raw}")

    def reverse_order(self) -> None:
        self.add("reversed")

    def say_nan(self, device: int | str, call: str) -> None:
        self.add(f"nan {device} {call}")

    def hang(self, device: int | str, call: str) -> None:
        """Let calls not return before this line is taken back."""
        self.add(f"hang {device} {call}")

    def unload(self) -> None:
        """Unload the driver; it can be loaded again once this line is taken back."""
        self.add("unloaded")

    def make_a100(self, device: int) -> None:
        self.add(f"a100 {device}")

    def make_b200(self, device: int) -> None:
        self.add(f"b200 {device}")

    def divide(self, device: int, profiles: str) -> None:
        """Put a board into MIG mode with these instances (`1g.10gb,2g.20gb`, `-` for an empty place)."""
        self.add(f"mig {device} {profiles}")

    def set_devices(self, count: int) -> None:
        self.add(f"devices {count}")

    def refuse_init(self, code: int) -> None:
        self.add(f"init {code}")

    def xid(self, device: int, code: int, times: int = 1) -> None:
        """Let an XID happen now, in every process that has registered for the device's events (device -1: of none)."""
        self.add(f"xid {device} {code} {time.monotonic_ns()} {times}")

    def clock_event(self, device: int, mask: int, times: int = 1) -> None:
        """Let the device's clock change now; its clock event reasons are `mask` from now on."""
        self.add(f"clock_event {device} {mask} {time.monotonic_ns()} {times}")

    def run_process(
        self,
        device: int,
        pid: int,
        used_bytes: int | str = "na",
        percent: int | str = "idle",
        kind: str = "C",
        instance: int | str = "",
    ) -> None:
        self.add(f"process {device} {pid} {used_bytes} {percent} {kind} {instance}")

    def set_path(self, one: int, other: int, level: int) -> None:
        self.add(f"path {one} {other} {level}")

    def set_nvlink(self, device: int | str, link: int | str, to: int | str) -> None:
        self.add(f"nvlink {device} {link} {to}")

    def misuses(self) -> int:
        """Return how often this process has freed a set or shut the driver down while a thread waited in it."""
        count = ctypes.CDLL(str(self._library)).stub_misuses
        count.restype = ctypes.c_ulong
        return count()

    def gpm_samples(self) -> int:
        """Return how many GPM samples this process has allocated and not given back."""
        count = ctypes.CDLL(str(self._library)).stub_gpm_samples
        count.restype = ctypes.c_long
        return count()

    def asked_since(self, device: int) -> int:
        """Return the time stamp that this process has last asked for newer process samples than."""
        stamp = ctypes.CDLL(str(self._library)).stub_asked_since
        stamp.restype = ctypes.c_ulonglong
        return stamp(device)

    def calls(self, name: str, device: int = -1) -> int:
        """Return how often this process has made a call, for one device or (-1) for all, since the stub was loaded."""
        count = ctypes.CDLL(str(self._library)).stub_call_count
        count.restype = ctypes.c_ulong
        return count(name.encode(), device)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(COMPILER) is None:
        missing = "no C compiler (cc): the stub of the NVIDIA driver cannot be built"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return build(tmp_path_factory.mktemp("nvml_stub"))


@pytest.fixture
def nvml_stub(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubDriver]:
    control = tmp_path / "nvml_control"
    monkeypatch.setenv("STEPWATT_NVML_STUB_CONTROL", str(control))
    # pynvml would look the driver up by name, once for the whole process: the next test must not find it there.
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(nvml_library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    driver = StubDriver(nvml_library, control)
    yield driver
    driver.clear()
    _wait_for_threads()


def _wait_for_threads() -> None:
    """A thread that a test left behind would go on calling the driver, and count in the tests that follow."""
    deadline = time.monotonic() + 60
    while left := [thread.name for thread in threading.enumerate() if thread.name in _THREADS]:
        assert time.monotonic() < deadline, f"the test left threads that call the driver: {left}"
        time.sleep(0.02)
