"""The server's Celery app: ingest on queue `telemetry`, what takes long on `upkeep`, the rest on `default`.

Loaded by FleetConfig.ready(). Task modules of the upper apps are named as strings. The clock has an app of its own (beat.py),
and so has the agent on a GPU host (telemetry/agent).
"""

import os
import warnings
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging

from fleet.celery_options import configured

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")

# Celery warns a root user because of pickle, which is not accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = configured(Celery("stepwatt", include=["telemetry.tasks", "training.tasks"]))


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:
    """Django's LOGGING holds in workers too; connecting here keeps Celery from replacing it."""
