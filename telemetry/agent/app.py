"""The host's Celery app and process: a worker on the queue `host.<name>`, beside sampler, batcher, sender and step listener.

Needs neither Django nor the database, and loads no torch. What the upper package adds (the job runner) is named as a string.
"""

import fcntl
import logging
import os
import signal
import warnings
from contextlib import ExitStack
from importlib import import_module
from types import FrameType

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from celery.worker import state

from telemetry.agent.backends.cpu import CpuBackend
from telemetry.agent.backends.nvml.backend import NvmlBackend
from telemetry.agent.backends.protocol import Backend
from telemetry.agent.batcher import Batcher
from telemetry.agent.config import AgentConfig, ConfigInvalid
from telemetry.agent.context import AgentContext, Extension
from telemetry.agent.sampler import Sampler
from telemetry.agent.sender import Sender
from telemetry.agent.steps import StepListener
from telemetry.transport import CELERY_OPTIONS
from telemetry.wire import INGEST_TASK, host_queue

logger = logging.getLogger(__name__)

EXTENSIONS = ("training.host.tasks",)
FAREWELL_SECONDS = 2.0


def create_app(config: AgentConfig) -> Celery:
    """Return the host's Celery app."""
    # Without fix-ups: Celery's would set Django up wherever DJANGO_SETTINGS_MODULE happens to be set.
    app = Celery("stepwatt-agent", broker=config.broker_url, include=list(EXTENSIONS), fixups=[])
    app.conf.update(
        CELERY_OPTIONS,
        task_default_queue=host_queue(config.host),
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
    )
    return app


def run(config: AgentConfig) -> None:
    """Sample, listen and take orders until SIGTERM. Sampling starts here, whether the broker is reached or not.

    Raises ConfigInvalid where another agent runs in the same directory.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    setup_logging.connect(_keep_logging)
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
    sampler = Sampler(_backends(config), config.sample_seconds)
    sender = Sender(app)
    listener = StepListener(config.socket_path)
    batcher = Batcher(
        config.host,
        sampler,
        lambda payload: sender.submit(INGEST_TASK, payload),
        lambda: {**sender.cost(), "step_frames_refused_total": listener.refused},
        period=config.batch_seconds,
        sample_seconds=config.sample_seconds,
    )
    with ExitStack() as ending:  # in the reverse order: the last ticks become a batch, and the batch is sent
        for part, stop in (
            (sender, lambda: sender.stop(patience=FAREWELL_SECONDS)),
            (batcher, batcher.stop),
            (sampler, sampler.stop),
            (listener, listener.stop),
        ):
            part.start()
            ending.callback(stop)
        if state.should_stop is not None:
            return
        _attach_extensions(config, sampler, sender, listener)
        app.Worker(
            hostname=f"agent@{config.host}",
            queues=[host_queue(config.host)],
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel="INFO",
            quiet=True,
        ).start()


def _note_end(number: int, frame: FrameType | None) -> None:
    """Until Celery takes SIGTERM over, leave its own mark, which its worker looks at from its first moment.

    Raising here instead would break into imports, whose locks other threads then wait for without end.
    """
    state.should_stop = os.EX_OK


def _backends(config: AgentConfig) -> list[Backend]:
    return [NvmlBackend(), CpuBackend(config.directory)]


def _attach_extensions(config: AgentConfig, sampler: Sampler, sender: Sender, listener: StepListener) -> None:
    context = AgentContext(
        host=config.host,
        directory=config.directory,
        socket_path=config.socket_path,
        job_python=config.job_python,
        submit=sender.submit,
        devices=sampler.devices,
        on_frames=listener.register,
    )
    for name in EXTENSIONS:
        extension: Extension = import_module(name)
        extension.attach(context)


def _keep_logging(**_: object) -> None:
    """Celery leaves logging as basicConfig made it."""
