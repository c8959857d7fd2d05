"""Django's handle on the package; connects what becomes of alerts and newest readings of a host that is removed."""

import time
from importlib import import_module
from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate

from telemetry.store import partitions


class TelemetryConfig(AppConfig):
    name = "telemetry"

    def ready(self) -> None:
        post_migrate.connect(_make_partitions, sender=self)
        import_module("telemetry.notify.removal")
        import_module("telemetry.store.removal")


def _make_partitions(**_: Any) -> None:
    """Those of today stand before the first batch comes: upkeep's first run may be an hour away."""
    if partitions.are_there():  # not where a migration went back before the store
        partitions.keep(int(time.time() * 1000))
