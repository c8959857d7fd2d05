"""The server's Celery app: ingest on queue `telemetry`, everything else on `default`. Loaded by FleetConfig.ready().

Task modules of the upper apps are named as strings. The agent on a GPU host has an app of its own (telemetry/agent).
"""

import os
import warnings
from typing import Any

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import setup_logging
from django.conf import settings
from django.utils.module_loading import import_string

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")

# Celery warns a root user because of pickle, which is not accepted here.
warnings.filterwarnings("ignore", category=SecurityWarning)

app = Celery("stepwatt", include=["telemetry.tasks", "training.tasks"])
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    import_string("telemetry.transport.CELERY_OPTIONS"),
    broker_use_ssl=import_string("telemetry.transport.broker_tls")(
        settings.CELERY_BROKER_URL, settings.STEPWATT_BROKER_CA
    ),
    task_default_queue="default",
    task_routes={"telemetry.ingest_batch": {"queue": "telemetry"}, "training.ingest_*": {"queue": "telemetry"}},
    # A message leaves the broker only when its work is committed; ingest is idempotent, so twice is no harm.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=8,
    beat_schedule={
        "roll-up": {"task": "telemetry.roll_up", "schedule": 10.0, "options": {"expires": 10}},
        "retire": {"task": "telemetry.retire", "schedule": 600.0, "options": {"expires": 600}},
        "watch-jobs": {"task": "training.watch_jobs", "schedule": 3.0, "options": {"expires": 3}},
    },
)


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:
    """Django's LOGGING holds in workers too; connecting here keeps Celery from replacing it."""
