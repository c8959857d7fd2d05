"""A call into the stubbed driver that does not return: the sampler's threads, the real bindings, a real wait in C."""

import pytest

from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.nvml.events import EventListener
from telemetry.agent.collector import Collector
from telemetry.agent.sampler import Sampler
from telemetry.catalog import AbsentReason
from tests.telemetry.steered import wait_for

PERIOD, PATIENCE = 0.1, 0.3
TIMEOUT = {AbsentReason.TIMEOUT}


@pytest.fixture
def sampler(nvml_stub):
    backend = NvmlBackend(listener=EventListener(wait_seconds=0.2))
    made = Sampler(Collector([backend], PERIOD), PERIOD, patience=PATIENCE)
    made.start()
    yield made
    nvml_stub.clear()
    # The driver is not let go of while a call hangs in it.
    wait_for(lambda: not any(driver.held for driver in made.drivers()))
    made.stop()


def newest_when(sampler, condition, seconds=60):
    found = []
    wait_for(lambda: found.extend(tick for tick in sampler.take() if condition(by_number(tick))) or found, seconds)
    return by_number(found[0])


def by_number(tick):
    """Return by the stub's device number what the readings are: reasons, or values."""
    return {
        device.index: {reading for name, reading in tick.readings[uuid].items() if not name.startswith("xid_")}
        for uuid, device in tick.devices.items()
    }


def test_one_device_hangs_and_seven_go_on(sampler, nvml_stub):
    newest_when(sampler, lambda tick: len(tick) == 8)
    nvml_stub.hang(3, "nvmlDeviceGetTemperature")

    # Where the machine is busy, a tick may lack others' readings, too.
    newest_when(
        sampler, lambda tick: [number for number, found in tick.items() if found == TIMEOUT] == [3] and len(tick) == 8
    )

    hung, going = (nvml_stub.calls("nvmlDeviceGetTemperature", number) for number in (3, 2))
    wait_for(lambda: nvml_stub.calls("nvmlDeviceGetTemperature", 2) >= going + 2)
    assert nvml_stub.calls("nvmlDeviceGetTemperature", 3) == hung


def test_a_device_whose_call_came_back_is_read_again(sampler, nvml_stub):
    newest_when(sampler, lambda tick: len(tick) == 8)
    nvml_stub.slow(3, "nvmlDeviceGetTemperature", 600)
    newest_when(sampler, lambda tick: tick.get(3) == TIMEOUT and len(tick) == 8)
    nvml_stub.clear()

    tick = newest_when(sampler, lambda tick: AbsentReason.TIMEOUT not in tick.get(3, TIMEOUT))

    assert len(tick) == 8
