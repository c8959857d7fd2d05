"""The reference jobs of simulated hosts: what they carry out and refuse, and that their results are told from real ones."""

from dataclasses import replace

import pytest
from rich.console import Console

from fleet.models import Host, Origin
from telemetry.simulation.faults import Fault, FaultKind
from telemetry.simulation.fleet import Fleet, Shape
from tests.training.judging.judged import finished
from tests.training.reference_jobs import ready_host
from training.api.job_answers import JobItem, ResultItem
from training.jobs.table import result_table
from training.judging import key
from training.message import wire
from training.message.wire import CANCEL_TASK, START_TASK, JobOrder
from training.simulation.jobs import SimulatedJobs
from training.views.table_files import jobs as jobs_file

START = 1_760_000_000.0
PARAMS = {"steps": 10, "warmup_steps": 2}


class Desk:
    """A fleet of two idle hosts of two GPUs; `told` is what they report, `steps` how many datagrams their agents got."""

    def __init__(self):
        self.now, self.told, self.steps = START, [], 0
        self.fleet = Fleet(Shape(2, 2, is_idle=True, faults=()), lambda: self.now, lambda parcel: None)
        self.jobs = SimulatedJobs(self.fleet, self._hear, self.told.append)

    def _hear(self, host, datagrams, now):
        self.steps += len(datagrams)

    def order(self, job=1, *, host=0, device=0, **changes):
        machine = self.fleet.machines[host]
        order = JobOrder(
            job, "ab", machine.host, "gpt-train", PARAMS, machine.devices[device].uuid, round((START + 600) * 1000), 900
        )
        self.jobs.take(START_TASK, wire.pack(replace(order, **changes)))

    def cancel(self, job=1, host="sim-0001"):
        self.jobs.take(CANCEL_TASK, wire.pack_cancel(job, "ab", host))

    def run(self, seconds=10):
        for _ in range(seconds):
            self.now += 1
            self.fleet.tick()
            self.jobs.tick(self.now)

    def states(self):
        return [report.state for report in self.told]

    def users(self, host=0, device=0):
        return self.fleet.machines[host].sources()[device].processes()


@pytest.fixture
def desk():
    return Desk()


def test_an_order_is_carried_out_on_its_gpu_and_told_until_its_result(desk):
    desk.order()
    desk.run(3)
    assert [process.user for process in desk.users()] == ["stepwatt"]
    assert desk.users(device=1) == []
    desk.run(7)

    assert [desk.states()[0], set(desk.states()[1:-1]), desk.states()[-1]] == ["starting", {"running"}, "done"]
    assert [report.sequence for report in desk.told] == list(range(1, len(desk.told) + 1))
    assert (desk.steps, desk.told[-1].result["measured_steps"]) == (12, 10)
    assert desk.told[-1].result["step_seconds_median"] == pytest.approx(0.2, rel=0.05)
    assert desk.users() == []


def test_an_order_that_comes_twice_starts_nothing_twice_and_is_answered_with_its_end(desk):
    desk.order()
    desk.run(4)
    desk.order()
    desk.run(6)
    n_told = len(desk.told)
    desk.order()
    desk.run(1)

    assert desk.states().count("starting") == 1
    assert desk.steps == 12
    assert desk.told[n_told:] == [desk.told[n_told - 1]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"workload": "gemm-sweep", "params": {}}, "does reference trainings on one GPU, and nothing else"),
        ({"workload": "abacus"}, "'abacus' is not one of"),
        ({"device_uuid": "GPU-0"}, "has none with UUID 'GPU-0'"),
        ({"expires_ms": 1}, "the order expired before this host took it"),
    ],
)
def test_what_a_simulated_host_does_not_do_is_refused_with_its_reason(desk, changes, reason):
    desk.order(**changes)
    desk.run(1)

    (report,) = desk.told
    assert (report.state, desk.steps) == ("failed", 0)
    assert reason in report.reason


def test_of_two_jobs_on_a_gpu_the_second_is_refused(desk):
    desk.order(1)
    desk.order(2)
    desk.run(1)

    assert [(report.job, report.state) for report in desk.told if report.job == 2] == [(2, "failed")]
    assert "is busy with reference job 1" in desk.told[1].reason


def test_an_order_that_is_late_is_left_for_the_next_one(desk):
    desk.order(starts_by_ms=round(START * 1000))
    desk.run(1)

    assert desk.told == []


def test_a_cancel_ends_a_job_and_keeps_one_that_it_overtook_from_starting(desk):
    desk.order(1)
    desk.run(3)
    desk.cancel(1)
    desk.cancel(2, host="sim-0002")
    desk.order(2, host=1)
    desk.run(5)

    assert [(report.job, report.state) for report in desk.told if report.state not in {"starting", "running"}] == [
        (1, "cancelled"), (2, "cancelled"), (2, "cancelled"),
    ]  # fmt: skip
    assert desk.users() == []


def test_a_job_on_a_gpu_that_is_lost_fails(desk):
    desk.order()
    desk.run(3)
    desk.fleet.machines[0].suffer(Fault(FaultKind.LOST, 0, 0, desk.now, desk.now + 60))
    desk.run(1)

    assert (desk.told[-1].state, desk.told[-1].reason) == ("failed", "the driver's calls for its GPU failed")


def test_a_silent_host_says_nothing_of_its_job_until_it_speaks_again(desk):
    desk.order()
    desk.run(1)
    n_told = len(desk.told)
    desk.fleet.machines[0].silent_until = desk.now + 10
    desk.run(9)
    assert len(desk.told) == n_told
    desk.run(2)

    assert desk.states()[-1] == "done"


def test_with_one_seed_all_sound_gpus_have_the_same_losses_but_for_their_rounding(desk):
    desk.order(1)
    desk.order(2, host=1)
    desk.run(10)

    one, other = (report.result["loss_end"] for report in desk.told if report.state == "done")
    assert one != other
    assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.django_db
def test_a_simulated_result_is_no_measure_of_a_real_device():
    host = ready_host("a")
    job = finished(host)
    real = key.digest(key.parts(job))
    Host.objects.update(origin=Origin.SIMULATED)
    job.refresh_from_db()

    assert key.digest(key.parts(job)) != real
    assert key.parts(job)["origin"] == "simulated"


@pytest.mark.django_db
def test_a_simulated_result_is_marked_where_a_terminal_or_a_program_reads_it(capsys):
    job = finished(ready_host("a", origin=Origin.SIMULATED))

    Console(width=200).print(result_table([job]))

    assert "a (simulated)" in capsys.readouterr().out
    assert (JobItem.of(job).origin, ResultItem.of(job).origin) == ("simulated", "simulated")
    assert b"a,simulated,gpt-train" in jobs_file("jobs", [job]).content
