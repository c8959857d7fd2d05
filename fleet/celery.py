"""The server's Celery app: ingest on queue `telemetry`, what takes long on `upkeep`, the rest on `default`.

Loaded by FleetConfig.ready(). Task modules of the upper apps are named as strings. The clock has an app of its own (beat.py),
and so has the agent on a GPU host (telemetry/agent).
"""

import gc
import os
import warnings
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_ready

from fleet.celery_options import configured

_NEW_OBJECTS = 20_000  # before they are looked through; a group of messages makes about as many

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")

# Celery warns a root user because of pickle, which is not accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = configured(Celery("stepwatt", include=["telemetry.tasks", "training.tasks"]))


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:
    """Django's LOGGING holds in workers too; connecting here keeps Celery from replacing it."""


@worker_ready.connect
def _leave_what_is_loaded(**_: Any) -> None:
    """Keep the collector from looking through modules and models again and again: they live as long as the process.

    With its defaults it took an eighth of the ingest's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
