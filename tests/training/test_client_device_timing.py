"""Phases timed by the device's own events, read one step late. The events are stand-ins: a device passes them when told."""

from collections import deque

from stepwatt.device_timing import MOST_LATE, DeviceTimer, event_maker
from stepwatt.runs import Run


class Device:
    """Passes the events up to `passed`, one millisecond between each two."""

    def __init__(self):
        self.n_recorded = self.passed = 0

    def event(self):
        return Event(self)


class Event:
    def __init__(self, device):
        self._device, self.at = device, 0

    def record(self):
        self._device.n_recorded += 1
        self.at = self._device.n_recorded

    def query(self):
        return self.at <= self._device.passed

    def elapsed_time(self, later):
        assert later.query(), "to read an event that has not passed waits for the device"
        return float(later.at - self.at)


def run_on(device):
    """Return a run whose steps are timed on the device, and what it sends."""
    run, sent = Run("r"), deque()
    run._timer = DeviceTimer(device.event, sent.append)
    return run, sent


def one_step(run):
    with run.step() as step:
        for name in ("forward", "backward", "forward"):
            with step.phase(name):
                pass


def test_a_step_is_told_with_the_devices_time_once_the_device_has_passed_it():
    device = Device()
    run, sent = run_on(device)
    one_step(run)
    assert not sent
    device.passed = device.n_recorded
    one_step(run)

    (step,) = sent
    assert (step.number, step.phases) == (1, {"forward": 0.002, "backward": 0.001})


def test_a_device_that_never_passes_them_keeps_no_step_from_being_told():
    run, sent = run_on(Device())
    for _ in range(MOST_LATE + 3):
        one_step(run)

    assert [step.number for step in sent] == [1, 2, 3]
    # By the host's own clock, which may stand between two of its lines.
    told = [step.phases["forward"] for step in sent]
    assert 0.002 not in told
    assert min(told) < 0.001


def test_what_is_left_is_told_at_the_end_and_once():
    device = Device()
    run, sent = run_on(device)
    one_step(run)
    run.farewell()
    run.farewell()

    assert [step.number for step in sent] == [1]


def test_events_that_fail_leave_the_hosts_time():
    class Broken(Device):
        def event(self):
            raise RuntimeError

    run, sent = run_on(Broken())
    one_step(run)
    one_step(run)

    assert sent[0].phases["forward"] > 0


def test_without_a_device_nothing_is_timed_on_it():
    assert event_maker() is None
    assert Run("r", device_timing=True).step().timer is None
