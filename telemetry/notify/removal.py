"""What receivers hear of a host's alerts when it is removed: that they ended. Loaded by TelemetryConfig.

Alerts go with their host. What somebody was told of stays, resolved and without its host, so that its end can be told too.
"""

from datetime import datetime

from django.db.models import Exists, OuterRef, Q
from django.dispatch import receiver

from fleet.inventory.removal import host_leaves
from fleet.models import Event, Host
from telemetry.models import Delivery, DeliveryReason
from telemetry.notify.due import RESOLVED_WITHIN
from telemetry.notify.send import REMOVED


@receiver(host_leaves)
def end_alerts(host: Host, now: datetime, **_: object) -> None:
    told = Delivery.objects.filter(event=OuterRef("pk"), delivered_at__isnull=False)
    is_news = Q(resolved_at=None) | Q(resolved_at__gt=now - RESOLVED_WITHIN)
    kept = Event.objects.filter(is_news, Exists(told.filter(reason=DeliveryReason.FIRING)), rule__gt="", host=host)
    for event in kept.exclude(Exists(told.filter(reason=DeliveryReason.RESOLVED))).select_related("device"):
        where = {
            "host": host.name,
            "cluster": host.cluster,
            "device": event.device.uuid if event.device else None,
        }
        event.detail = {"resolved": f"{host.name} was removed"} | event.detail | {REMOVED: where}
        event.resolved_at = event.resolved_at or now
        event.host = event.device = None
        event.save(update_fields=["host", "device", "resolved_at", "detail"])
