"""Faults that somebody asked for: how they are written, and that they and nothing else happen."""

import pytest

from telemetry.simulation import planned
from telemetry.simulation.faults import FaultKind
from telemetry.simulation.fleet import Fleet, Shape
from telemetry.simulation.planned import Planned

START = 1_760_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("slow", Planned(FaultKind.SLOW)),
        ("lost,host=2,gpu=3,after=0,for=90", Planned(FaultKind.LOST, 2, 3, 0.0, 90.0)),
        ("none", None),
    ],
)
def test_a_fault_is_read_as_a_person_writes_it(text, expected):
    assert planned.read(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sleepy", "'sleepy': expected one of overheated"),
        ("slow,host=one", "'host=one': expected KIND"),
        ("slow,gpu=1.5", "'gpu=1.5': expected KIND"),
        ("slow,rack=1", "'rack'"),
        ("slow,after=-1", "expected a number from 0"),
        ("slow,for=nan", "expected a number from 0"),
        ("none,host=1", "'none': expected one of"),
    ],
)
def test_what_is_no_fault_is_refused_with_what_is(text, words):
    with pytest.raises(ValueError, match=words):
        planned.read(text)


def test_a_fault_of_what_the_fleet_has_not_is_said():
    assert planned.why_not([Planned(FaultKind.SLOW, 2, 7)], 2, 8) == ""
    assert planned.why_not([Planned(FaultKind.SLOW, 3)], 2, 8) == "slow: there is no host 3 among 2"
    assert planned.why_not([Planned(FaultKind.SLOW, 0)], 2, 8) == "slow: there is no host 0 among 2"
    assert planned.why_not([Planned(FaultKind.SLOW, 1, 8)], 2, 8) == "slow: there is no GPU 8 among 8"


def test_they_happen_in_order_of_time_from_the_present_on():
    wanted = [Planned(FaultKind.LOST, 2, 1, 90, 30), Planned(FaultKind.SLOW, 1, 0, 60, 600)]

    found = [(fault.kind, fault.host, fault.device, fault.start, fault.end) for fault in planned.faults(wanted, START)]

    assert found == [
        (FaultKind.SLOW, 0, 0, START + 60, START + 660),
        (FaultKind.LOST, 1, 1, START + 90, START + 120),
    ]


class Living:
    """A fleet whose clock the test moves."""

    def __init__(self, shape, **options):
        self.now = START
        self.fleet = Fleet(shape, lambda: self.now, lambda parcel: None, **options)

    def run(self, seconds, stride=10):
        for _ in range(seconds // stride):
            self.now += stride
            self.fleet.tick()

    def conditions(self):
        return [gpu.lengthening for machine in self.fleet.machines for gpu in machine.gpus]


def test_where_somebody_says_what_goes_wrong_nothing_else_does():
    living = Living(Shape(2, 2, faults=(Planned(FaultKind.SLOW, 2, 1, 60, 120),)))
    living.run(50)
    assert living.conditions() == [1, 1, 1, 1]
    living.run(20)
    assert living.conditions() == [1, 1, 1, pytest.approx(4 / 3)]
    living.run(600)

    assert living.conditions() == [1, 1, 1, 1]


def test_after_a_past_they_are_counted_from_its_end():
    living = Living(Shape(1, 1, faults=(Planned(FaultKind.SLOW, after_seconds=60),)), past_until=START + 1000)
    living.run(1050)
    assert living.conditions() == [1]
    living.run(20)

    assert living.conditions() == [pytest.approx(4 / 3)]


def test_steps_are_longer_while_a_rank_is_slow_and_tell_which():
    living = Living(Shape(1, 2, faults=(Planned(FaultKind.SLOW, 1, 1, 300, 300),)))
    (place,) = living.fleet.runs
    living.run(900)

    steps = place.run.take_steps(living.now)
    told = {step.number: dict(step.paces) for step in steps if START + 320 < step.start < START + 580}
    assert told
    assert all(paces == {(0, 1): pytest.approx(4 / 3)} for paces in told.values())
    assert not any(step.paces for step in steps if step.start < START + 290 or step.start > START + 620)
