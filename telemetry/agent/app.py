"""The host's Celery app and process: a worker on the queue `host.<name>`, beside sampler, batcher, sender and step listener.

Needs neither Django nor the database, and loads no torch. What the upper package adds (the job runner) is named as a string.
"""

import fcntl
import gc
import logging
import os
import signal
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from celery.worker import state

from telemetry.agent import heap, tasks
from telemetry.agent.acknowledging import Acknowledging
from telemetry.agent.backends.allocation import Allocations
from telemetry.agent.backends.amd import AmdBackend
from telemetry.agent.backends.cpu import CpuBackend
from telemetry.agent.backends.identity import machine_id
from telemetry.agent.backends.machine import Machine
from telemetry.agent.backends.node import NodeBackend
from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.protocol import Backend
from telemetry.agent.backends.tpu import TpuBackend
from telemetry.agent.batcher import Batcher
from telemetry.agent.batching import BatchMaker, machine_digest
from telemetry.agent.cargo import CargoHold
from telemetry.agent.clock_offset import ClockOffset
from telemetry.agent.collector import Collector
from telemetry.agent.config import AgentConfig, ConfigInvalid
from telemetry.agent.context import AgentContext, Extension
from telemetry.agent.control import ControlSocket
from telemetry.agent.drivers import DriverControl
from telemetry.agent.farewell import Farewell
from telemetry.agent.job_software import JobSoftware
from telemetry.agent.keys import Seal
from telemetry.agent.orders import OrderDesk
from telemetry.agent.outbox import Outbox
from telemetry.agent.own_cost import OwnCost
from telemetry.agent.sampler import Sampler
from telemetry.agent.sender import Sender
from telemetry.agent.spool import Spool
from telemetry.agent.steps import StepListener
from telemetry.agent.waking import Waking
from telemetry.broker.transport import CELERY_OPTIONS, broker_tls
from telemetry.message import notices
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK
from telemetry.message.notices import NOTICE_TASK
from telemetry.message.wire import host_queue

logger = logging.getLogger(__name__)

EXTENSIONS = ("training.host.tasks",)
FAREWELL_SECONDS = 2.0
GARBAGE_OBJECTS = 20_000  # a few megabytes at most


def create_app(config: AgentConfig) -> Celery:
    """Return the host's Celery app."""
    # Without fix-ups: Celery's would set Django up wherever DJANGO_SETTINGS_MODULE happens to be set.
    app = Celery("stepwatt-agent", broker=config.broker_url, include=["telemetry.agent.tasks", *EXTENSIONS], fixups=[])
    app.conf.update(
        CELERY_OPTIONS,
        broker_use_ssl=broker_tls(config.broker_url, config.broker_ca),
        broker_transport="telemetry.broker.full_broker:Transport" if config.broker_url.startswith("redis") else None,
        task_default_queue=host_queue(config.host),
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    return app


def create_worker(app: Celery, config: AgentConfig) -> Any:
    """Return the worker that takes the host's orders; its `start` returns when it is told to end. On the main thread."""
    app.steps["consumer"].add(Waking)
    return app.Worker(
        hostname=f"agent@{config.host}",
        queues=[host_queue(config.host)],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="INFO",
        quiet=True,
    )


def run(config: AgentConfig) -> None:
    """Sample, listen and take orders until SIGTERM. Sampling starts here, whether the broker is reached or not.

    Raises ConfigInvalid where another agent runs in the same directory.
    """
    heap.share()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    setup_logging.connect(_keep_logging)
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).addFilter(_is_worth_a_line)
    warnings.filterwarnings("ignore", category=SecurityWarning)  # about root and pickle, which is not accepted here
    with (config.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigInvalid(
                f"another agent runs in {config.directory}; stop it, or set STEPWATT_DATA_DIR"
            ) from None
        _run(config)


def _run(config: AgentConfig) -> None:
    signal.signal(signal.SIGTERM, _note_end)
    app = create_app(config)
    parts = _Parts.of(config, app)
    with ExitStack() as ending:  # in the reverse order: the last ticks become a batch, and the batch is sent
        parts.sender.start()
        ending.callback(parts.sender.stop, patience=FAREWELL_SECONDS)
        for part in (
            parts.cargo,
            parts.batcher,
            parts.drivers,
            parts.sampler,
            parts.control,
            parts.software,
            heap.Tidying(),
        ):
            part.start()
            ending.callback(part.stop)
        if state.should_stop is not None:
            return
        farewell = Farewell()
        _attach_extensions(config, parts, farewell)
        parts.listener.start()  # not before somebody handles what it hears
        ending.callback(parts.listener.stop)
        farewell.start()
        ending.callback(farewell.stop)
        worker = create_worker(app, config)
        _rest_collector()
        worker.start()


def _rest_collector() -> None:
    """Leave what the imports made out of the garbage collector's rounds, which would come in a tick's way, and have them seldom.

    What the agent makes from now on goes by its reference counts: only a fault's traceback leaves a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS)


def _note_end(number: int, frame: FrameType | None) -> None:
    """Until Celery takes SIGTERM over, leave its own mark, which its worker looks at from its first moment.

    Raising here instead would break into imports, whose locks other threads then wait for without end.
    """
    state.should_stop = os.EX_OK


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the agent is made of; each has `start` and `stop`, but `orders`, `offset` and `acknowledging`."""

    sender: Sender
    sampler: Sampler
    cargo: CargoHold
    batcher: Batcher
    listener: StepListener
    software: JobSoftware
    orders: OrderDesk
    offset: ClockOffset
    acknowledging: Acknowledging
    drivers: DriverControl
    control: ControlSocket

    @classmethod
    def of(cls, config: AgentConfig, app: Celery) -> "_Parts":
        spool = Spool(config.directory, limit_bytes=config.spool_bytes, limit_seconds=config.spool_seconds)
        outbox, offset = Outbox(spool), ClockOffset()
        sender = Sender(app, Seal(config.directory, config.host), outbox)
        listener, cargo = StepListener(config.socket_path), CargoHold(config.directory)
        software = JobSoftware(config.job_python)
        told = (outbox.cost, offset.cost)
        cost = OwnCost(lambda: sampler.take_lateness(), told, lambda: listener.refused)  # noqa: PLW0108 — made below
        collector = Collector(
            _backends(config, cost),
            config.sample_seconds,
            power_period=config.power_seconds,
            allocations=Allocations.of_this_host(os.environ),
        )
        sampler = Sampler(collector, config.sample_seconds, power_period=config.power_seconds)
        machine = machine_digest(machine_id(config.directory))
        batcher = Batcher(
            BatchMaker(config.host, machine, outbox.names(config.host, machine), config.sample_seconds, cargo.take),
            sampler,
            sender.submit_batch,
            every_ticks=round(config.batch_seconds / config.sample_seconds),
            software=software.versions,
        )
        orders = OrderDesk(
            config.directory,
            config.host,
            config.server_public_key,
            lambda notice: sender.submit(NOTICE_TASK, notices.pack(notice)),
        )
        acknowledging = Acknowledging(orders, sender.acknowledge, offset)
        drivers = DriverControl(config.host, config.directory, sampler, orders, sender.submit)
        control = ControlSocket(config.directory, drivers.ask)
        return cls(sender, sampler, cargo, batcher, listener, software, orders, offset, acknowledging, drivers, control)


def _backends(config: AgentConfig, cost: OwnCost) -> list[Backend]:
    """The machine's own first: they are read at once, whatever the drivers do."""
    machine = Machine()
    return [
        CpuBackend(config.directory, machine=machine),
        NodeBackend(config.directory, cost, machine=machine),
        NvmlBackend(),
        AmdBackend(config.directory),
        TpuBackend(config.directory),
    ]


def _attach_extensions(config: AgentConfig, parts: _Parts, farewell: Farewell) -> None:
    tasks.attach(parts.drivers)
    tasks.attach_acknowledging(parts.acknowledging)
    context = AgentContext(
        host=config.host,
        directory=config.directory,
        socket_path=config.socket_path,
        job_python=config.job_python,
        job_address=config.job_address,
        broker_host=urlsplit(config.broker_url).hostname or "",
        submit=parts.sender.submit,
        orders=parts.orders,
        clock_offset=parts.offset.known,
        devices=parts.sampler.devices,
        on_frames=parts.listener.register,
        on_cargo=parts.cargo.register,
        on_end=farewell.register,
    )
    for name in EXTENSIONS:
        extension: Extension = import_module(name)
        extension.attach(context)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Acknowledgements come four times a minute: Celery's two lines about each would bury the rest."""
    return ACKNOWLEDGE_TASK not in record.getMessage()


def _keep_logging(**_: object) -> None:
    """Celery leaves logging as basicConfig made it."""
