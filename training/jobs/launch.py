"""Launching and cancelling reference jobs: the one service behind the button, the API and `manage.py reference`.

A launch is validated whole before anything is written: one bad host or parameter refuses all of it, with the field named.
"""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from fleet.access import audit
from fleet.access.audit import Actor
from fleet.models import Device, DeviceKind, Host, Origin, in_place
from training.jobs import admission, holding, idleness, orders, readiness, teams
from training.jobs.drawing import draws_of
from training.jobs.readiness import Hindrance, ReadyDevice
from training.message.rank_order import MAX_RANKS
from training.models import ACTIVE_STATES, JobState, ReferenceJob, Team
from training.workloads.catalog import validate, why_not_as_one
from training.workloads.params import ParamsInvalid
from training.workloads.workload import Workload

Wanted = tuple[str, str]
"""A host's name and the UUID of one of its devices, "" for the one that it gets by itself."""


Chosen = TypeVar("Chosen", bound=ReadyDevice)


class Target(NamedTuple):
    """Where one job runs."""

    host: Host
    device: Device


class LaunchRefused(Exception):
    """Nothing was started. `field` is one of workload, hosts, device, or the parameter's name.

    `is_busy` tells a host that runs a job already, where the same launch may succeed later, from a launch that is wrong.
    `at` says of each host that speaks against the launch why.
    """

    def __init__(self, field: str, message: str, *, is_busy: bool = False, at: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.is_busy = is_busy
        self.at = at or {}

    @property
    def why(self) -> str:
        """Return what speaks against it at the first host, for who waits until it does no more."""
        return next(iter(self.at.values()), str(self))


def launch(
    workload: str,
    hosts: Sequence[str],
    params: Mapping[str, Any],
    *,
    actor: Actor,
    device_uuid: str = "",
    force_reason: str = "",
) -> list[ReferenceJob]:
    """Queue `workload` on each host and send the orders. Returns one job per host, in the order given.

    `device_uuid` chooses the device where one host is named; else each host's first accelerator, or its CPU.
    Raises LaunchRefused.
    """
    wanted = [(host, device_uuid) for host in hosts]
    return launch_selected(workload, wanted, params, actor=actor, force_reason=force_reason)


def launch_selected(
    workload: str,
    wanted: Sequence[Wanted],
    params: Mapping[str, Any],
    *,
    actor: Actor,
    force_reason: str = "",
    as_one: bool = False,
) -> list[ReferenceJob]:
    """Queue `workload` on each of `wanted` as one launch, and send the orders; `as_one`: as ranks of one distributed job.

    Raises LaunchRefused.
    """
    now = timezone.now()
    with transaction.atomic():
        jobs = prepare(workload, wanted, params, actor=actor, now=now, force_reason=force_reason, as_one=as_one)
    send(jobs)
    return jobs


def prepare(
    workload: str,
    wanted: Sequence[Wanted],
    params: Mapping[str, Any],
    *,
    actor: Actor,
    now: datetime,
    force_reason: str = "",
    as_one: bool = False,
    only_when_idle: bool = False,
) -> list[ReferenceJob]:
    """Queue `workload` on each of `wanted`, inside the caller's transaction. `send` follows its commit.

    `force_reason` says why it is to run although a device is in use or short of memory. Of a distributed job (`as_one`) the
    first is rank 0, which stands for the whole. `only_when_idle`: also a CPU that does other work refuses. Raises LaunchRefused.
    """
    try:
        chosen, complete = validate(workload, params)
    except ParamsInvalid as error:
        raise LaunchRefused(error.field, str(error)) from error
    forced = force_reason.strip()
    found = targets(wanted)
    if as_one:
        _check_as_one(found, chosen)
    # The others are looked at when they are back.
    there = [target for target in found if not target.host.is_silent(now)]
    if not forced:
        busy = idleness.hindrances(there, now) if only_when_idle else []
        _check_ready([*busy, *readiness.hindrances(there, chosen.name, complete)])
    of_all = {
        "launch": secrets.token_hex(8), "workload": chosen.name, "params": complete,
        "time_limit_seconds": chosen.time_limit_seconds, "requested_by": actor.name, "forced": forced, "created_at": now,
    }  # fmt: skip
    waits = holding.as_one(found, now) if as_one else holding.each(found, now)
    jobs = [_queued(target, wait, now, of_all) for target, wait in zip(found, waits, strict=True)]
    if as_one:
        teams.gather(jobs)
    ReferenceJob.objects.bulk_create(jobs)
    said = ({"forced": forced} if forced else {}) | ({"ranks": len(jobs)} if as_one else {})
    deeds = [(job.host.name, {"job": job.pk, "workload": job.workload, "params": complete, **said}) for job in jobs]
    audit.record_each(actor, "reference.launch", deeds)
    return jobs


def targets(wanted: Sequence[Wanted]) -> list[Target]:
    """Return hosts, locked by the caller's transaction, and devices that could run something now. Raises LaunchRefused."""
    return [Target(host, _device(host, uuid)) for host, (_, uuid) in zip(_hosts(wanted), wanted, strict=True)]


def send(jobs: Sequence[ReferenceJob]) -> None:
    """Send the orders of jobs that are committed: a host never hears of a launch that was not."""
    orders.send_starts([job for job in jobs if job.sent_at is not None])


def cancel(job: ReferenceJob, *, actor: Actor, now: datetime) -> bool:
    """Ask for the end of a job; False where it has ended already. A job that no host has taken is cancelled at once.

    Of a distributed job all ranks are ended, whichever is named.
    """
    if job.team is not None:
        return _cancel_team(job, job.team, actor=actor, now=now)
    with transaction.atomic():
        asked = ReferenceJob.objects.filter(pk=job.pk, state__in=ACTIVE_STATES).update(
            cancel_requested_at=now, sent_at=now
        )
        if not asked:
            return False
        ReferenceJob.objects.filter(pk=job.pk, state=JobState.QUEUED).update(
            state=JobState.CANCELLED, reason=f"cancelled by {actor.name} before a host took it", ended_at=now
        )
        audit.record(actor.name, "reference.cancel", job.host.name, {"job": job.pk}, actor.address)
    orders.send_cancel(job, now)
    job.refresh_from_db()
    return True


def again(job: ReferenceJob, *, actor: Actor, now: datetime) -> list[ReferenceJob]:
    """Queue the same once more on the same devices while they are idle, inside the caller's transaction; returns all ranks.

    Raises LaunchRefused.
    """
    ranks = teams.ranks(job)
    wanted = [(rank.host.name, rank.device.uuid if rank.device else "") for rank in ranks]
    as_one = job.team_id is not None
    return prepare(job.workload, wanted, job.params, actor=actor, now=now, as_one=as_one, only_when_idle=True)


def _cancel_team(job: ReferenceJob, team: Team, *, actor: Actor, now: datetime) -> bool:
    if all(rank.is_final for rank in teams.ranks(job)):
        return False
    with transaction.atomic():
        audit.record(actor.name, "reference.cancel", job.host.name, {"job": job.pk}, actor.address)
        teams.note_cancel(team, actor.name)
    teams.step(team, now)
    job.refresh_from_db()
    return True


def cancel_all(launch_id: str, *, actor: Actor, now: datetime) -> int:
    """Ask for the end of all jobs of a launch; returns of how many."""
    with transaction.atomic():
        found = ReferenceJob.objects.select_for_update(of=("self",)).select_related("host", "device")
        jobs = list(found.filter(launch=launch_id, state__in=ACTIVE_STATES).order_by("pk"))
        asked = ReferenceJob.objects.filter(pk__in=[job.pk for job in jobs])
        asked.update(cancel_requested_at=now, sent_at=now)
        asked.filter(state=JobState.QUEUED).update(
            state=JobState.CANCELLED, reason=f"cancelled by {actor.name} before a host took it", ended_at=now
        )
        together = Team.objects.filter(pk__in={job.team_id for job in jobs}, cancelled_by="", failure="")
        together.update(cancelled_by=actor.name)
        audit.record_each(actor, "reference.cancel", [(job.host.name, {"job": job.pk}) for job in jobs])
    orders.send_cancels(jobs, now)
    return len(jobs)


def _queued(target: Target, wait: holding.Wait, now: datetime, of_all: Mapping[str, Any]) -> ReferenceJob:
    """Return the job of one target, not written yet; `of_all` are the fields that the launch's jobs have in common."""
    sent_at, expires_at = None if wait.is_held else now, now + wait.lifetime
    return ReferenceJob(
        **of_all, host=target.host, device=target.device, reason=wait.reason, sent_at=sent_at, expires_at=expires_at
    )


def _check_as_one(found: Sequence[Target], workload: Workload) -> None:
    if why_not := why_not_as_one(workload):
        raise LaunchRefused("workload", why_not)
    most = min(MAX_RANKS, settings.STEPWATT_JOBS_AT_ONCE)
    if most < 2:
        raise LaunchRefused("hosts", "a distributed job is as many jobs as it has ranks, and one may run at once here")
    if not 2 <= len(found) <= most:
        raise LaunchRefused("hosts", f"a distributed job takes 2 to {most} devices; these are {len(found)}")
    if why_not := admission.why_never(draws_of([target.device for target in found]).values()):
        raise LaunchRefused("hosts", why_not)
    kinds = {target.device.kind for target in found}
    if len(kinds) > 1:
        raise LaunchRefused(
            "hosts", f"the ranks of a distributed job run on one kind of device; these are {', '.join(sorted(kinds))}"
        )


def _check_ready(found: Sequence[Hindrance]) -> None:
    against: dict[str, list[str]] = {}
    for each in found:
        against.setdefault(each.host, []).append(str(each))
    if against:
        at = {host: "; ".join(words) for host, words in against.items()}
        raise LaunchRefused("hosts", f"{_several(at)}; wait, or force it with a reason", is_busy=True, at=at)


def _several(at: Mapping[str, str]) -> str:
    more = f"; and {len(at) - 1} more" if len(at) > 1 else ""
    return f"{next(iter(at.values()))}{more}"


def _hosts(wanted: Sequence[Wanted]) -> list[Host]:
    """Return the host of each, locked, each able to run something now."""
    names = [name for name, _ in wanted]
    if not names:
        raise LaunchRefused("hosts", "choose at least one host")
    if len(set(wanted)) != len(wanted):
        raise LaunchRefused("hosts", "a host is named twice")
    found = {host.name: host for host in _locked(names)}
    if wrong := {name: why for name in names if (why := _why_never(name, found.get(name)))}:
        raise LaunchRefused("hosts", _several(wrong), at=wrong)
    running = ReferenceJob.objects.filter(host__name__in=names, state__in=ACTIVE_STATES).select_related("host")
    busy = {
        job.host.name: f"{job.host.name} is busy with reference job {job.pk} ({job.workload})"
        for job in running.only("host__name", "workload").order_by("pk")
    }
    if busy:
        raise LaunchRefused("hosts", f"{_several(busy)}; wait or cancel it first", is_busy=True, at=busy)
    return [found[name] for name in names]


def _why_never(name: str, host: Host | None) -> str:
    if host is None:
        return f"there is no host named {name!r}"
    if host.origin == Origin.IMPORTED:
        return f"{name} is {host.get_origin_display()}: it cannot run anything"
    return ""


def _locked(names: Sequence[str]) -> QuerySet[Host]:
    return Host.objects.select_for_update().filter(name__in=names).prefetch_related("devices")


def _device(host: Host, device_uuid: str) -> Device:
    devices = sorted(host.devices.all(), key=lambda device: (device.kind, in_place(device.index)))
    devices = [device for device in devices if device.kind != DeviceKind.NODE]  # the host as a whole
    if device_uuid:
        devices = [device for device in devices if device.uuid == device_uuid]
        if not devices:
            raise LaunchRefused("device", f"{host.name} has no device {device_uuid}")
    if not devices:
        raise LaunchRefused("hosts", f"{host.name} has not reported any device yet")
    return default_device(devices)


def default_device(devices: Sequence[Chosen]) -> Chosen:
    """Return the device that a job gets where none is chosen: the first accelerator, else the CPU."""
    return next((device for device in devices if device.is_accelerator), devices[0])
