"""The simulated machines: their signals hang together, repeat with their seed, and show what goes wrong."""

from itertools import islice, pairwise

import pytest

from telemetry.catalog import BY_NAME, AbsentReason, Kind
from telemetry.message.wire import EventKind
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.faults import Fault, FaultKind, faults
from telemetry.simulation.gpu import HW_POWER_BRAKE, SW_POWER_CAP, SW_THERMAL
from telemetry.simulation.load import IDLE, PHASES, Inference, Load, Nothing, Session
from telemetry.simulation.machine import Machine
from telemetry.simulation.training import Plan, TrainingRun

START = 1_760_000_000.0


class Steady:
    def __init__(self, load: Load) -> None:
        self.load = load

    def at(self, seconds: float) -> Load:
        return self.load


class Watched:
    """A machine on a clock that the test moves; `gpu[n]` and `node` are the newest readings."""

    def __init__(self, task, model="h100", n_gpus=2, seed="1"):
        self.now = START
        self.machine = Machine("sim-0001", BOARDS[model], n_gpus, task, lambda: self.now, seed)
        self.machine.open()

    def tick(self, seconds=1.0):
        self.now += seconds
        readings = [dict(source.read()) for source in self.machine.sources()]
        self.gpu, self.cpu, self.node = readings[:-2], readings[-2], readings[-1]
        return readings

    def suffer(self, kind, seconds=60.0, device=0):
        self.machine.suffer(Fault(kind, 0, device, self.now, self.now + seconds))


def training(start=START - 600, **fields):
    return TrainingRun(Plan("llm", 4.0, 512, 4096, **fields), "one", start, "1")


@pytest.mark.parametrize("task", [training(), Inference("1"), Nothing()], ids=["training", "inference", "idle"])
def test_the_energy_counter_is_the_integral_of_the_power(task):
    watched = Watched(task)
    watched.tick()
    points = [watched.tick() for _ in range(600)]

    for device in (0, 1, -2, -1):  # two GPUs, the processors, the node
        watts = [point[device]["power_draw_watts"] for point in points]
        trapezoid = sum((one + other) / 2 for one, other in pairwise(watts))
        grown = points[-1][device]["energy_joules_total"] - points[0][device]["energy_joules_total"]
        assert grown == pytest.approx(trapezoid, rel=0.005)


@pytest.mark.parametrize("model", BOARDS)
@pytest.mark.parametrize("load", [IDLE, *PHASES.values()])
def test_every_reading_is_of_the_catalogue_and_believable(model, load):
    watched = Watched(Steady(load), model)

    for readings in [watched.tick() for _ in range(200)][-1]:
        for name, value in readings.items():
            assert name in BY_NAME
            if isinstance(value, AbsentReason):
                assert value is AbsentReason.NOT_SUPPORTED
            else:
                assert 0 <= value <= (1 if BY_NAME[name].unit == "ratio" else 2**53), name


@pytest.mark.parametrize("model", BOARDS)
def test_a_gpu_has_every_metric_of_gpus_or_says_why_not(model):
    watched = Watched(Nothing(), model)
    watched.tick()

    assert set(watched.gpu[0]) == {name for name in BY_NAME if not name.startswith(("host_", "agent_"))}


@pytest.mark.parametrize("model", BOARDS)
def test_training_draws_what_the_board_may_and_idling_little(model):
    busy, idle = Watched(Steady(PHASES["compute"]), model), Watched(Nothing(), model)
    for _ in range(30):
        busy.tick(), idle.tick()

    limit = BOARDS[model].limit_watts
    assert 0.8 * limit < busy.gpu[0]["power_draw_watts"] < 1.03 * limit
    assert idle.gpu[0]["power_draw_watts"] < 0.35 * limit
    assert busy.gpu[0]["temperature_celsius"] > idle.gpu[0]["temperature_celsius"] + 20


@pytest.mark.parametrize(
    ("task", "code"),
    [(Steady(PHASES["starve"]), 2), (Inference("1"), 3), (Nothing(), 0), (Session(START), 2)],
    ids=["training", "inference", "idle", "reserved"],
)
def test_who_has_a_gpu_is_told(task, code):
    watched = Watched(task)

    assert {watched.tick()[0]["allocation"] for _ in range(5)} == {code}


def test_heat_follows_power_with_inertia():
    watched = Watched(Steady(PHASES["compute"]))
    temperatures = [watched.tick()[0]["temperature_celsius"] for _ in range(120)]

    assert temperatures[0] < temperatures[5] < temperatures[20] < temperatures[-1]
    assert temperatures[-1] - temperatures[-20] <= 2


def test_counters_never_fall():
    watched = Watched(training())
    points = [watched.tick() for _ in range(120)]
    watched.suffer(FaultKind.MEMORY)
    points += [watched.tick() for _ in range(5)]

    for earlier, later in pairwise(points):
        for before, after in zip(earlier, later, strict=True):
            counters = [n for n, v in before.items() if BY_NAME[n].kind is Kind.COUNTER and v in (0, *after.values())]
            assert all(after[name] >= before[name] for name in counters)


@pytest.mark.parametrize(
    ("kind", "reason", "counter"),
    [
        (FaultKind.OVERHEATED, SW_THERMAL, "thermal_throttle_seconds_total"),
        (FaultKind.BRAKED, HW_POWER_BRAKE, None),
    ],
)
def test_a_throttle_lowers_the_clocks_says_so_and_ends(kind, reason, counter):
    watched = Watched(Steady(Load(sm=0.98, tensor=0.5, dram=0.4, memory=0.5)), n_gpus=1)
    before = [watched.tick() for _ in range(60)][-1][0]
    watched.suffer(kind, seconds=120)
    during = [watched.tick() for _ in range(110)][-1][0]
    after = [watched.tick() for _ in range(300)][-1][0]

    assert during["sm_clock_hertz"] < 0.95 * before["sm_clock_hertz"]
    assert int(during["clock_event_reasons"]) & reason
    assert not int(before["clock_event_reasons"]) & reason
    assert not int(after["clock_event_reasons"]) & reason
    assert counter is None or during[counter] > before[counter]


def test_the_power_limit_lowers_the_clocks_and_is_counted():
    greedy = Load(sm=1.0, tensor=0.95, dram=0.8, memory=0.9)
    watched = Watched(Steady(greedy))
    reading = [watched.tick() for _ in range(30)][-1][0]

    assert int(reading["clock_event_reasons"]) & SW_POWER_CAP
    assert reading["sm_clock_hertz"] < reading["sm_clock_max_hertz"]
    assert reading["power_throttle_seconds_total"] > 0


def test_a_lost_gpu_has_no_reading_and_an_event_and_comes_back_with_new_counters():
    watched = Watched(training())
    before = watched.tick()[1]["energy_joules_total"]
    watched.suffer(FaultKind.LOST, seconds=30, device=1)
    lost = watched.tick()[1]
    events = watched.machine.take_events()
    back = watched.tick(40)[1]

    assert (lost.pop("xid_last"), lost.pop("xid_errors_total")) == (79, 1)
    assert set(lost.values()) == {AbsentReason.GPU_IS_LOST}
    assert [(event.kind, event.code, event.uuid) for event in events] == [
        (EventKind.XID, 79, watched.machine.devices[1].uuid)
    ]
    assert back["energy_joules_total"] < before


def test_a_memory_error_is_an_event_and_a_row_to_be_remapped():
    watched = Watched(training())
    watched.suffer(FaultKind.MEMORY)
    reading = watched.tick()[0]

    assert [event.code for event in watched.machine.take_events()] == [94]
    assert reading["ecc_uncorrected_total"] == reading["row_remap_pending"] == reading["xid_errors_total"] == 1
    assert reading["xid_last"] == 94


def test_a_hanging_gpu_times_out_and_the_others_go_on():
    watched = Watched(training())
    watched.suffer(FaultKind.HANGING, seconds=10)
    hanging, other = watched.tick()[:2]

    assert (hanging.pop("xid_last"), hanging.pop("xid_errors_total")) == (0, 0)
    assert set(hanging.values()) == {AbsentReason.TIMEOUT}
    assert other["gpu_utilization_ratio"] > 0


def test_the_processes_say_who_uses_the_gpu():
    watched = Watched(Inference("1"))
    watched.tick()

    assert [p.user for p in watched.machine.sources()[0].processes()] == ["inference"]
    assert Watched(Nothing()).machine.sources()[0].processes() == []


@pytest.mark.parametrize("task", [training, lambda: Inference("1")], ids=["training", "inference"])
def test_the_same_seed_gives_the_same_readings_and_another_seed_others(task):
    one, same, other = Watched(task()), Watched(task()), Watched(task(), seed="2")

    assert [one.tick() for _ in range(20)] == [same.tick() for _ in range(20)]
    assert one.gpu != [other.tick() for _ in range(20)][-1][:-2]


def test_every_kind_of_fault_comes_in_order_and_as_the_seed_says():
    found = list(islice(faults("1", START, 4, 8), 50))

    assert {fault.kind for fault in found} == set(FaultKind)
    assert all(START < earlier.start < later.start for earlier, later in pairwise(found))
    assert found == list(islice(faults("1", START, 4, 8), 50))
    assert all(fault.host < 4 and fault.device < 8 and fault.end >= fault.start for fault in found)


def test_in_the_past_little_breaks_and_from_its_end_on_as_much_as_ever():
    until = START + 86_400
    found = list(islice(faults("1", START, 8, 8, until), 100))
    past = [fault for fault in found if fault.start < until]

    assert 5 < len(past) < 60
    assert found[len(past)].start - until < 1200
    assert found[-1].start - until < 6 * 3600


def test_steps_follow_each_other_as_in_recorded_runs():
    run = training(START)
    steps = [step for step in run.take_steps(START + 2000) if not step.phase]
    regular = [step.seconds for step in steps if not step.is_warmup]

    assert [step.number for step in steps] == list(range(len(steps)))
    assert all(earlier.start + earlier.seconds <= later.start + 1e-6 for earlier, later in pairwise(steps))
    assert all(3.8 < seconds < 4.2 for seconds in regular)
    assert steps[0].seconds > 3 * regular[0]
    assert steps[-1].loss < 0.8 * steps[0].loss
    assert all(step.start + step.seconds <= START + 2000 for step in steps)


def test_steps_are_taken_once_whenever_they_are_asked_for():
    whole = training(START).take_steps(START + 500)
    run = training(START)

    assert [step for second in range(501) for step in run.take_steps(START + second)] == whole


def test_a_slow_rank_lengthens_every_step():
    fast, slow = training(START), training(START)
    slow.hold_up((0, 0), 1.25)

    assert len(slow.take_steps(START + 1000)) < 0.85 * len(fast.take_steps(START + 1000))


def test_a_run_computes_validates_saves_and_stalls():
    run = training(START)
    loads = {run.at(START + second) for second in range(6000)}

    assert {PHASES["compute"], PHASES["reduce"], PHASES["validate"], PHASES["save"], PHASES["starve"]} <= loads
