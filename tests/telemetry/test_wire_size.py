"""How much a batch takes on the wire and in the broker, with the simulator's signals, which are the same each time."""

import pytest
from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu.utils.json import dumps

from telemetry.agent.names import Names
from telemetry.agent.sender import Sender
from telemetry.broker.transport import CELERY_OPTIONS
from telemetry.catalog import BY_NAME
from telemetry.decoding import received
from telemetry.message import envelope
from telemetry.message.wire import INGEST_QUEUE, INGEST_TASK
from telemetry.simulation.boards import BOARDS
from telemetry.simulation.host import Host
from telemetry.simulation.load import Inference, Nothing
from telemetry.simulation.machine import Machine
from telemetry.simulation.training import Plan, TrainingRun

START = 1_760_000_000.0
TASKS = {
    "training": lambda: TrainingRun(Plan("llm", 10.64, 2048, 4096), "one", START - 600, "1"),
    "short steps": lambda: TrainingRun(Plan("vit", 0.3, 4096, 257), "one", START - 600, "1"),
    "inference": lambda: Inference("1"),
    "idle": Nothing,
}


def simulated(machine, clock, made):
    """A simulated host whose batches come into `made`."""
    return Host(machine, clock, lambda parcel: made.append(parcel.body), 1.0, names=Names("1" * 32), digest="0" * 32)


def payloads(task, model="h100"):
    """A minute of a host with 8 GPUs: a batch each 5 s of samples each second; the first one tells its topology besides."""
    now, made = START, []
    host = simulated(Machine("sim-0001", BOARDS[model], 8, task, lambda: now, "1"), lambda: now, made)
    for second in range(1, 66):
        now = START + second
        host.tick()
        if second % 5 == 0:
            host.send()
    return made[1:]


def n_values(payload):
    batch = received.unpack(payload)
    return sum(value is not None for block in batch.columns.values() for column in block for value in column)


def lying_in_the_broker(sent):
    """The messages as the Redis transport writes them: it puts the JSON of what the in-memory one keeps as it is."""
    key = Ed25519PrivateKey.generate()
    app = Celery(broker="memory://", set_as_current=False, fixups=[])
    app.conf.update(CELERY_OPTIONS)
    sender = Sender(app, lambda task, body: envelope.seal(key, task, "sim-0001", body))
    sender.start()
    for payload in sent:
        sender.submit(INGEST_TASK, payload)
    sender.stop(patience=10)
    with app.connection_for_read() as connection:
        waiting = connection.default_channel._queue_for(INGEST_QUEUE)
        return [dumps(waiting.get_nowait()) for _ in sent]


@pytest.mark.parametrize("task", TASKS)
def test_a_value_takes_at_most_1_4_bytes_on_the_wire_and_2_5_in_the_broker(task):
    sent = payloads(TASKS[task]())
    values = sum(map(n_values, sent))

    assert values >= len(sent) * 5 * 8 * 53  # all metrics that an H100 has
    assert sum(map(len, sent)) <= 1.4 * values
    assert sum(map(len, lying_in_the_broker(sent))) <= 2.5 * values


@pytest.mark.parametrize("model", BOARDS)
def test_other_boards_keep_to_it_too(model):
    sent = payloads(TASKS["training"](), model)

    assert sum(map(len, sent)) <= 1.4 * sum(map(n_values, sent))


def test_readings_arrive_as_exactly_as_their_resolution_says():
    now = START
    machine = Machine("sim-0001", BOARDS["h100"], 8, TASKS["training"](), lambda: now, "1")
    made = []
    host = simulated(machine, lambda: now, made)
    read = []
    for second in range(1, 6):
        now = START + second
        host.tick()
        read.append(host._ticks[-1])
    host.send()

    batch = received.unpack(made[0])
    for name, block in batch.columns.items():
        half = BY_NAME[name].resolution / 2 * (1 + 1e-9)
        for device, column in zip(batch.devices, block, strict=True):
            for tick, value in zip(read, column, strict=True):
                assert value is None or abs(value - tick.readings[device.uuid][name]) <= half
