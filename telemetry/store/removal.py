"""What a host says of itself now, forgotten as soon as it is removed: whoever looks at all newest readings has none of it.

Loaded by TelemetryConfig. What it measured goes later, a slice at a time (fleet/inventory/removal.py).
"""

from django.dispatch import receiver

from fleet.inventory.removal import host_leaves
from fleet.models import Host
from telemetry.models import LatestState


@receiver(host_leaves)
def forget_newest(host: Host, **_: object) -> None:
    LatestState.objects.filter(host=host).delete()
