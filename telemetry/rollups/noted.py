"""What the settings page shows of the last run."""

from datetime import datetime

from telemetry.models import MaintenanceRun


def note(name: str, now: datetime, seconds: float, done: int) -> None:
    fields = {"started_at": now, "seconds": seconds, "done": done, "note": ""}
    MaintenanceRun.objects.update_or_create(name=name, defaults=fields)
