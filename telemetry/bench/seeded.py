"""A database with the bench's fleet in it. Called by bench/scraping.py in processes whose data directory is a temporary one.

Never call it where somebody's data is: `seed` wants an empty database, and `touch` writes over what hosts have told.
"""

import time
from dataclasses import fields

from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from fleet.access.auth import create_token
from fleet.models import Device, Host, Role
from telemetry.bench import gpu_fleet
from telemetry.exposition.scrape import Fleet
from telemetry.models import LatestState
from telemetry.store.newest import Identity


def seed() -> str:
    """Fill the empty database; returns an API token."""
    call_command("migrate", verbosity=0)
    hosts = gpu_fleet.hosts(timezone.now())
    names = [field.name for field in fields(Identity)]
    identities = [identity for host in hosts for identity in gpu_fleet.identities(host)]
    Host.objects.bulk_create(hosts)
    Device.objects.bulk_create(Device(**{name: getattr(identity, name) for name in names}) for identity in identities)
    LatestState.objects.bulk_create(LatestState(host=host, at_ms=0, devices={}) for host in hosts)
    touch()
    return create_token("bench", Role.VIEWER)


@transaction.atomic
def touch() -> None:
    """Give every host new readings, as a round of batches does."""
    now = timezone.now()
    at_ms = gpu_fleet.milliseconds(now)
    for host in gpu_fleet.hosts(now):
        LatestState.objects.filter(host=host).update(at_ms=at_ms, devices=gpu_fleet.readings(host, at_ms))
    Host.objects.update(heard_at=now, last_seen_at=now)


def seconds_to_read() -> tuple[float, float]:
    """Return what reading and parsing takes a server: of all hosts, and where nothing has changed since."""
    fleet = Fleet()
    times = []
    for _ in range(2):
        start = time.perf_counter()
        fleet.refresh(timezone.now())
        times.append(time.perf_counter() - start)
    return times[0], times[1]
