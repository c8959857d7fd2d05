"""Open alerts raise what the readings say of devices and hosts. Pure; called by glance.py.

The same rules as the pages of single hosts (queries.py); a test holds the two together.
"""

from collections.abc import Iterator

from telemetry.health import Finding, Health
from telemetry.health.gravest import Gravest, graver
from telemetry.newest.glance_parts import CODE, Codes, HostRow, Part, worst_of


def raise_devices(part: Part, first: int, alerts: Gravest, health: Codes, notes: dict[int, str]) -> None:
    """Raise the counted devices of a host that are not silent; `first` is the position of the first of them."""
    for place, identity in enumerate(part.identities, start=first):
        found = alerts.of_devices.get(identity.pk)
        if found and health[place] != CODE[Health.SILENT] and CODE[found.health] > health[place]:
            health[place], notes[place] = CODE[found.health], found.note


def worst_of_host(host: HostRow, part: Part, alerts: Gravest) -> Finding:
    """Return how a host that reports stands: its gravest device, an alert of a silent one, or one of its own."""
    worst = worst_of(_raised(part, alerts))
    return graver(worst, alerts.of_hosts.get(host.pk, worst))


def _raised(part: Part, alerts: Gravest) -> Iterator[tuple[str, Finding]]:
    for pk, (title, own) in part.known.items():
        yield title, graver(own, alerts.of_devices.get(pk, own))
