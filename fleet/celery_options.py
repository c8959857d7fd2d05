"""The settings of all of the server's Celery processes: which queue a task goes to, and what the clock sends. See celery.py.

Task modules of the upper apps are named as strings.
"""

from celery import Celery
from django.conf import settings
from django.utils.module_loading import import_string

_TURNS_SECONDS = {
    "training.watch_jobs": 3.0,
    "training.judge_jobs": 5.0,
    "telemetry.acknowledge_batches": 5.0,
    "telemetry.deliver_alerts": 5.0,
    "telemetry.watch_health": 10.0,
    "telemetry.roll_up": 10.0,
    "training.measure_runs": 30.0,
    "telemetry.compact": 60.0,
    "training.compact_steps": 60.0,
    "telemetry.retire": 600.0,
    "training.retire_runs": 600.0,
    "telemetry.join_rollups": 900.0,
}
# What may take seconds at a time has a worker of its own: nothing that people or hosts wait for stands behind it.
_UPKEEP = (
    "telemetry.roll_up", "telemetry.join_rollups", "telemetry.compact", "telemetry.retire", "training.compact_steps",
    "training.measure_runs", "training.retire_runs",
)  # fmt: skip


def configured(app: Celery) -> Celery:
    """Return the app with the settings of all of the server's processes."""
    app.config_from_object("django.conf:settings", namespace="CELERY")
    app.conf.update(
        import_string("telemetry.broker.transport.CELERY_OPTIONS"),
        broker_use_ssl=import_string("telemetry.broker.transport.broker_tls")(
            settings.CELERY_BROKER_URL, settings.STEPWATT_BROKER_CA
        ),
        broker_transport="telemetry.broker.redis_transport:Transport"
        if settings.CELERY_BROKER_URL.startswith("redis")
        else None,
        task_default_queue="default",
        task_routes={
            "telemetry.ingest_batch": {"queue": "telemetry"},
            "training.ingest_*": {"queue": "telemetry"},
            **{name: {"queue": "upkeep"} for name in _UPKEEP},
        },
        # A message leaves the broker only when its work is committed; ingest is idempotent, so twice is no harm.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=8,
        # A turn that comes too late is left out: the next one does its work.
        beat_schedule={
            name: {"task": name, "schedule": seconds, "options": {"expires": seconds}}
            for name, seconds in _TURNS_SECONDS.items()
        },
    )
    return app
