"""The settings of all of the server's Celery processes: which queue a task goes to, and what the clock sends. See celery.py.

Task modules of the upper apps are named as strings.
"""

from celery import Celery
from django.conf import settings
from django.utils.module_loading import import_string


def configured(app: Celery) -> Celery:
    """Return the app with the settings of all of the server's processes."""
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.update(
        import_string("telemetry.transport.CELERY_OPTIONS"),
        broker_use_ssl=import_string("telemetry.transport.broker_tls")(
            settings.CELERY_BROKER_URL, settings.STEPWATT_BROKER_CA
        ),
        broker_transport="telemetry.redis_transport:Transport"
        if settings.CELERY_BROKER_URL.startswith("redis")
        else None,
        task_default_queue="default",
        task_routes={
            "telemetry.ingest_batch": {"queue": "telemetry"},
            "training.ingest_*": {"queue": "telemetry"},
            # What may take seconds at a time has a worker of its own: nothing that people or hosts wait for stands behind it.
            **{f"telemetry.{name}": {"queue": "upkeep"} for name in ("roll_up", "join_rollups", "compact", "retire")},
        },
        # A message leaves the broker only when its work is committed; ingest is idempotent, so twice is no harm.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=8,
        beat_schedule={
            "roll-up": {"task": "telemetry.roll_up", "schedule": 10.0, "options": {"expires": 10}},
            "compact": {"task": "telemetry.compact", "schedule": 60.0, "options": {"expires": 60}},
            "retire": {"task": "telemetry.retire", "schedule": 600.0, "options": {"expires": 600}},
            "watch-health": {"task": "telemetry.watch_health", "schedule": 10.0, "options": {"expires": 10}},
            "watch-jobs": {"task": "training.watch_jobs", "schedule": 3.0, "options": {"expires": 3}},
        },
    )
    return app
