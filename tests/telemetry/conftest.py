"""Fixtures of the tests of telemetry."""

from collections.abc import Iterator

import pytest

from telemetry.agent.backends.nvml.events import EventListener
from tests.telemetry.nvml_devices import Rig


@pytest.fixture
def rig(nvml_stub, tmp_path) -> Iterator[Rig]:
    """An NVML backend over the stub, not yet open, that waits for events a short time only."""
    rig = Rig(listener=EventListener(wait_seconds=0.05), kernel_boards=tmp_path / "gpus")
    yield rig
    nvml_stub.clear()
    rig.backend.close()


@pytest.fixture
def opened(rig: Rig) -> Rig:
    """The same, open and read until all answers are as they always are, so that they are taken as the driver wrote them."""
    rig.backend.open()
    for _ in range(3):
        rig.tick()
    return rig
