"""`manage.py simulate`: what it refuses, whom it enrols, and what arrives in the store."""

import threading
import time
from datetime import UTC, datetime
from io import StringIO
from itertools import count, pairwise
from uuid import uuid4

import numpy as np
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from fleet.models import Device, DeviceKind, Event, EventKind, Host, Origin
from telemetry.agent.names import Names
from telemetry.decoding import received
from telemetry.decoding.received import unpack
from telemetry.message import envelope
from telemetry.message.wire import INGEST_TASK
from telemetry.models import LatestState, StoredBatch
from telemetry.newest.queries import host_state
from telemetry.receiving import authentic
from telemetry.receiving.ingest import ingest
from telemetry.simulation.faults import Fault, FaultKind
from telemetry.simulation.fleet import Shape
from tests.factories import make_host
from tests.process.traces import wait_until
from tests.soak.load import digest_of
from tests.telemetry.watched import rules_firing, watch_for
from training.management.commands.simulate import Command
from training.message.wire import STEPS_CARGO
from training.models import Run
from training.simulation.living import NameTaken, Simulation, enrol, has_reported, report
from training.steps.columns import StepKind
from training.steps.store import read

pytestmark = pytest.mark.django_db


class Line:
    """What the sender does, without a broker: everything is sent at once. `sent` has (task, sealed message)."""

    def __init__(self, keys, *, takes=True):
        self.sent, self._keys, self._takes = [], keys, takes

    def names(self, host, machine):
        return Names(uuid4().hex, host=host)

    def n_unsent(self):
        return 0 if self._takes else 10_000

    def submit_batch(self, parcel):
        self.sent.append((INGEST_TASK, envelope.seal(self._keys[parcel.host], INGEST_TASK, parcel.host, parcel.body)))


def live(shape, *, prepare=lambda simulation: None, **options):
    """Let the fleet live, and take what it sends as the server's tasks do; returns the simulation and the messages."""
    keys = enrol(shape, "lab")
    line = Line(keys)
    simulation = Simulation(shape, keys, line, **options)
    prepare(simulation)
    simulation.run()
    for task, payload in line.sent:
        now = datetime.now(UTC)
        host, body = authentic.admit(payload, task, now)
        ingest(host, body, now)
    return simulation, line.sent


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus=8"], "--hosts"),
        (["--hosts=0", "--gpus=8"], "from 1 to 5000"),
        (["--hosts=5001", "--gpus=8"], "from 1 to 5000"),
        (["--hosts=two", "--gpus=8"], "'two'"),
        (["--hosts=4", "--gpus=8", "--mig", "--model=l4"], "l4 has no MIG"),
        (["--hosts=2", "--gpus=17"], "from 1 to 16"),
        (["--hosts=2", "--gpus=8", "--model=abacus"], "abacus"),
        (["--hosts=2", "--gpus=8", "--seconds=0"], "from 1 to"),
        (["--hosts=2", "--gpus=8", "--seconds=60", "--speed=nan"], "--speed"),
        (["--hosts=2", "--gpus=8", "--speed=10"], "--speed needs --seconds"),
        (["--hosts=2", "--gpus=8", "--history=9"], "from 60 to"),
        (["--hosts=2", "--gpus=8", "--seconds=60", "--history=60"], "--history goes with a fleet that lives on"),
        (["--hosts=2", "--gpus=8", "--prefix=a b"], "--prefix"),
        (["--hosts=2", "--gpus=8", "--fault=sleepy"], "'sleepy': expected one of"),
        (["--hosts=2", "--gpus=8", "--fault=slow,host=3"], "--fault: slow: there is no host 3 among 2"),
        (["--hosts=2", "--gpus=8", "--cluster=" + "c" * 64], "--cluster"),
    ],
)
def test_it_says_which_argument_is_wrong_and_changes_nothing(arguments, words):
    with pytest.raises(CommandError, match=words):
        call_command("simulate", *arguments)

    assert not Host.objects.exists()


def test_a_broker_that_does_not_answer_is_said_and_nothing_changes(settings):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:1/0"

    with pytest.raises(CommandError, match="cannot be reached"):
        call_command("simulate", "--hosts=1", "--gpus=1", "--seconds=5")

    assert not Host.objects.exists()


def test_mig_instances_arrive_as_devices_of_their_gpu():
    live(Shape(4, 1, has_instances=True), span=12.0, speed=1e6)

    instances = Device.objects.exclude(parent=None).order_by("index")
    assert [(each.host.name, each.profile, each.parent.index) for each in instances] == 2 * [("sim-0003", "3g.40gb", 0)]
    newest = LatestState.objects.get(host=instances[0].host).devices[instances[0].uuid]
    assert newest["values"]["memory_total_bytes"] == 81_559 * 2**20 / 2


@pytest.mark.parametrize("origin", [Origin.REAL, Origin.IMPORTED])
def test_a_host_that_exists_is_not_taken_over(origin):
    make_host("sim-0002", origin=origin)

    with pytest.raises(NameTaken, match="sim-0002"):
        enrol(Shape(3, 1), "lab")

    assert list(Host.objects.values_list("name", "origin", "public_key")) == [("sim-0002", origin, b"")]


def test_hosts_are_enrolled_as_simulated_each_with_its_own_key():
    keys = enrol(Shape(3, 1), "lab")

    hosts = Host.objects.all()
    assert {(host.origin, host.cluster) for host in hosts} == {(Origin.SIMULATED, "lab")}
    assert {bytes(host.public_key) for host in hosts} == {k.public_key().public_bytes_raw() for k in keys.values()}
    assert len(set(keys)) == 3


def test_a_second_simulation_takes_its_hosts_up_again_with_new_keys():
    enrol(Shape(2, 1), "lab")
    first = dict(Host.objects.values_list("name", "public_key"))

    enrol(Shape(3, 1), "other")

    assert Host.objects.filter(cluster="other").count() == 3
    assert all(bytes(Host.objects.get(name=name).public_key) != bytes(key) for name, key in first.items())


def test_what_it_sends_is_stored_and_ends_now():
    began = time.time()

    live(Shape(4, 2), span=60, speed=10_000)

    chunks = StoredBatch.objects.all()
    newest, oldest = max(chunk.end_ms for chunk in chunks) / 1000, min(chunk.start_ms for chunk in chunks) / 1000
    assert began - 1 <= newest <= time.time()
    assert 58 <= newest - oldest <= 60
    for chunk in chunks:
        assert unpack(bytes(chunk.body)).times_ms[-1] == chunk.end_ms
    assert Device.objects.filter(kind=DeviceKind.NVIDIA).count() == 8
    assert LatestState.objects.count() == 4


def test_every_second_of_every_host_is_there_once():
    live(Shape(3, 1), span=47, speed=10_000)

    assert Host.objects.count() == 3
    for host in Host.objects.all():
        times = [at for chunk in host_chunks(host) for at in unpack(bytes(chunk.body)).times_ms]
        assert len(times) == len(set(times)) == 47


def host_chunks(host):
    return StoredBatch.objects.filter(host=host).order_by("start_ms")


def test_runs_span_hosts_and_their_steps_end_before_now():
    live(Shape(6, 2), span=300, speed=10_000)

    run = Run.objects.get(name="llm-70b-pretrain")
    steps = read.steps(run)
    assert set(steps.rank.tolist()) == {0, 1, 2, 3}
    assert steps.ended_ms[-1] <= time.time() * 1000
    assert Run.objects.count() == 3
    sixth = steps.select((steps.number == 5) & (steps.kind == StepKind.TRAIN))
    assert sixth.of_rank(3).compute_seconds > 1.1 * sixth.of_rank(0).compute_seconds  # the worn GPU
    assert set(sixth.seconds.tolist()) == {sixth.seconds[0]}  # the others wait for it
    assert sixth.samples.sum() == 9  # of the four ranks of a model that spans them: 41 % of the peak of 4 H100s


def test_the_same_seed_sends_the_same_readings():
    def readings(seed):
        _, sent = live(Shape(2, 1, seed=seed), span=30, speed=10_000, clock=lambda: 1.76e9)
        bodies = [authentic.admit(p, t, datetime.now(UTC))[1] for t, p in sent if t == INGEST_TASK]
        Host.objects.all().delete()
        return [unpack(body).columns for body in bodies]

    assert readings(7) == readings(7) != readings(8)


def test_a_fault_of_a_machine_arrives_as_event_and_absent_reason():
    def lose(simulation):
        machine = simulation.fleet.machines[0]
        machine.suffer(Fault(FaultKind.LOST, 0, 1, machine._clock() + 1, machine._clock() + 1000))

    live(Shape(1, 2), prepare=lose, span=30, speed=10_000)

    device = Device.objects.get(kind=DeviceKind.NVIDIA, index=1)
    state = LatestState.objects.get().devices[device.uuid]
    assert set(state["absent"].values()) == {"gpu_is_lost"}
    assert Event.objects.get(kind=EventKind.XID).code == 79


def test_it_reports_what_each_host_made():
    simulation, _ = live(Shape(2, 1), span=30, speed=10_000)

    told = report(simulation.fleet)
    assert Host.objects.count() == 2
    for host in Host.objects.all():
        bodies = [bytes(chunk.body) for chunk in host_chunks(host)]
        stored = [unpack(body) for body in bodies]
        n_samples = sum(
            value is not None
            for batch in stored
            for block in batch.columns.values()
            for column in block
            for value in column
        )
        assert told[host.name] == {
            "epoch": stored[0].epoch,
            "batches": len(stored),
            "samples": n_samples,
            "digest": digest_of(reversed(bodies)),  # in any order
        }


def test_a_silent_host_sends_nothing_until_it_is_back():
    def silence(simulation):
        simulation.fleet.machines[0].silent_until = simulation.fleet.machines[0]._clock() + 20

    live(Shape(2, 1), prepare=silence, span=40, speed=10_000)

    silent, other = Host.objects.order_by("name")
    gap = host_chunks(silent).first().start_ms - host_chunks(other).first().start_ms
    assert gap == 19_000


def test_without_a_span_it_lives_until_it_is_stopped():
    shape = Shape(1, 1)
    keys = enrol(shape, "lab")
    line = Line(keys)
    simulation = Simulation(shape, keys, line)
    living = threading.Thread(target=simulation.run)
    living.start()
    wait_until(lambda: line.sent, 60, "its first batch")
    assert living.is_alive()
    simulation.stop.set()
    living.join(timeout=60)

    assert not living.is_alive()
    assert {task for task, _ in line.sent} == {INGEST_TASK}


def stopped_when_it_has_arrived(simulation):
    arrive = simulation.fleet.arrive

    def arrived():
        arrive()
        simulation.stop.set()

    simulation.fleet.arrive = arrived


def test_a_history_is_made_up_to_now_with_a_sample_each_half_minute():
    began = time.time()
    live(Shape(4, 1), history=3600, prepare=stopped_when_it_has_arrived)

    for host in Host.objects.all():
        times = sorted(at for chunk in host_chunks(host) for at in unpack(bytes(chunk.body)).times_ms)
        assert began - 3600 < times[0] / 1000 <= began - 3560
        assert began - 31 <= times[-1] / 1000 <= time.time()
        assert len(times) == len(set(times)) >= 110  # one of them may have been silent for a while
    assert {host.origin for host in Host.objects.all()} == {Origin.SIMULATED}
    assert {unpack(bytes(chunk.body)).sample_seconds for chunk in StoredBatch.objects.all()} == {30.0}


def stopped_after_100_ticks(simulation):
    tick, n_ticks = simulation.fleet.tick, count(1)

    def ticked():
        tick()
        if next(n_ticks) == 100:
            simulation.stop.set()

    simulation.fleet.tick = ticked


def test_while_its_past_is_made_a_host_has_no_present():
    live(
        Shape(1, 1), history=7200, prepare=stopped_after_100_ticks, arrived=lambda: pytest.fail("it has no whole past")
    )
    watch_for(90)

    host = Host.objects.get()
    states = host_state(host, datetime.now(UTC)).devices
    assert {(state.note, len(state.values)) for state in states} == {
        (f"last sample {host.last_seen_at:%Y-%m-%d %H:%M:%S} UTC", 0)
    }
    assert rules_firing() == set()


def test_steps_of_the_past_ended_when_they_did():
    live(Shape(1, 1), history=3600, prepare=stopped_when_it_has_arrived)

    (run,) = Run.objects.all()
    steps = read.steps(run)
    ended = steps.ended_ms[steps.kind == StepKind.TRAIN]
    assert len(ended) > 250
    assert (np.diff(ended) > 9_000).mean() > 0.99  # 10.64 s each, not all of a batch in one moment


def test_after_its_history_the_fleet_lives_on_in_real_time():
    shape = Shape(1, 1, faults=())
    keys = enrol(shape, "lab")
    line = Line(keys)
    n_made: list[int] = []
    simulation = Simulation(shape, keys, line, history=600, arrived=lambda: n_made.append(len(line.sent)))
    living = threading.Thread(target=simulation.run)
    living.start()
    wait_until(lambda: len(line.sent) >= 4, 60, "batches of now")
    simulation.stop.set()
    living.join(timeout=60)

    batches = [unpack(authentic.admit(payload, task, datetime.now(UTC))[1]) for task, payload in line.sent]
    assert [batches[0].sample_seconds, batches[-1].sample_seconds] == [30.0, 1.0]
    node = [device.kind for device in batches[0].devices].index("node")
    counters = [batch.columns["energy_joules_total"][node] for batch in batches]
    assert all(before[-1] < after[0] for before, after in pairwise(counters))
    assert len({batch.epoch for batch in batches}) == 1
    assert [batch.sample_seconds for batch in batches[: n_made[0]]] == [30.0] * n_made[0]
    assert len(n_made) == 1


def test_hosts_that_have_reported_before_get_no_second_past():
    assert not has_reported(Shape(2, 1))
    live(Shape(2, 1), span=30, speed=10_000)

    assert has_reported(Shape(2, 1))
    assert not has_reported(Shape(2, 1, prefix="other"))


def test_where_no_past_is_made_the_command_says_why():
    told = StringIO()
    command = Command(stdout=told)
    assert command._history(Shape(1, 1), 3600.0) == 3600.0
    make_host("sim-0001", origin=Origin.SIMULATED)

    assert command._history(Shape(1, 1), 3600.0) == 0.0
    assert "no past is made: hosts of sim-… have reported before" in told.getvalue()


def test_time_waits_for_a_server_that_lags():
    unread = [9_000, 9_000, 0]
    live(Shape(1, 1), span=5, speed=10_000, n_unread=lambda: unread.pop(0))

    assert unread == []


def test_messages_that_the_broker_never_takes_do_not_keep_it_from_ending():
    shape = Shape(1, 1)
    keys = enrol(shape, "lab")
    simulation = Simulation(shape, keys, Line(keys, takes=False), span=30_000, speed=10_000)
    living = threading.Thread(target=simulation.run)
    living.start()
    time.sleep(1)
    simulation.stop.set()
    living.join(timeout=60)

    assert not living.is_alive()


def test_steps_go_along_with_the_batches_of_the_host_whose_ranks_they_are():
    simulation, sent = live(Shape(4, 2), span=120, speed=10_000)
    admitted = [authentic.admit(payload, task, datetime.now(UTC)) for task, payload in sent]
    found = received.read_last([body for _, body in admitted])
    senders = {host.name for (host, _), (batch, _) in zip(admitted, found, strict=True) if STEPS_CARGO in batch.cargo}

    assert senders == {simulation.fleet.machines[host].host for place in simulation.fleet.runs for host in place.hosts}


def test_no_step_is_lost_or_told_twice_and_asides_are_told_as_such():
    live(Shape(3, 2), span=600, speed=10_000)

    for run in Run.objects.all():
        for rank in run.ranks.all():
            own = read.steps(run, ranks=[rank.rank])
            trained = own.of_kind(StepKind.TRAIN).number.tolist()
            assert sorted(trained) == list(range(len(trained)))
            assert (rank.n_lost, rank.n_frames) == (0, len(own))
    kinds = set(read.steps(Run.objects.get(name="llm-70b-pretrain")).kind.tolist())
    assert kinds >= {StepKind.TRAIN, StepKind.VALIDATION}
