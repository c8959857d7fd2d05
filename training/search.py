"""Search over hosts, devices, runs and reference jobs by what people know of them, or by a word for their state.

Asked by the search page.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TypeVar

from django.conf import settings
from django.db.models import Case, Model, Q, QuerySet, When
from django.urls import reverse
from django.utils import timezone

from fleet.models import Device, DeviceKind, Host, Origin
from training.jobs import queries
from training.models import JobState, ReferenceJob, Run
from training.runs import queries as run_queries

Found = TypeVar("Found", bound=Model)
_LONGEST = 200
_INDEX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Hit:
    """`title` is the link, `about` what tells it from others."""

    title: str
    about: str
    url: str


@dataclass(frozen=True, slots=True)
class Section:
    """What was found of one kind: the first few, and whether there are more."""

    name: str
    hits: Sequence[Hit]
    has_more: bool


def search(text: str, limit: int, cluster: str | None = None) -> list[Section]:
    """Return what has every word of the text, at most `limit` of each kind; kinds without any are left out.

    With a `cluster` only what its hosts are, have, take part in or did.
    """
    words, now = text[:_LONGEST].split(), timezone.now()
    if not words:
        return []
    here, at_host = (Q(), Q()) if cluster is None else (Q(cluster=cluster), Q(host__cluster=cluster))
    sections = [
        _section("Hosts", _hosts(words, now).filter(here), limit, _of_host),
        _section("Devices", _devices(words).filter(at_host), limit, _of_device),
        _section("Runs", run_queries.runs(now, text=" ".join(words), cluster=cluster), limit, _of_run),
        _section("Reference jobs", _jobs(words).filter(at_host), limit, _of_job),
    ]
    return [section for section in sections if section.hits]


def _section(name: str, found: QuerySet[Found], limit: int, hit: Callable[[Found], Hit]) -> Section:
    rows = list(found[: limit + 1])
    return Section(name, [hit(row) for row in rows[:limit]], len(rows) > limit)


def _all(words: Iterable[str], *fields: str, states: Mapping[str, Q] = MappingProxyType({})) -> Q:
    """Each word must stand in one of the fields, or be the word for a state that the row is in."""
    found = Q()
    for word in words:
        any_field = states.get(word.casefold(), Q(pk=None))
        for field in fields:
            any_field |= Q(**{f"{field}__icontains": word})
        found &= any_field
    return found


def _hosts(words: Sequence[str], now: datetime) -> QuerySet[Host]:
    heard_before = now - timedelta(seconds=settings.STEPWATT_SILENT_SECONDS)
    silent = (Q(heard_at=None) | Q(heard_at__lt=heard_before)) & ~Q(origin=Origin.IMPORTED)  # as Host.is_silent
    return Host.objects.filter(_all(words, "name", "cluster", "labels", states={"silent": silent})).order_by("name")


def _devices(words: Sequence[str]) -> QuerySet[Device]:
    found = Q()
    for word in words:
        found &= _all([word], "uuid", "model", "pci_bus_id", "host__name") | _of_title(word)
    order: list[str | Case] = ["host__name", "kind", "index"]
    if indices := [index for index in map(_index, words) if index is not None]:
        # What is called so comes before what has the digit somewhere.
        order.insert(0, Case(When(index__in=indices, then=0), default=1))
    return Device.objects.filter(found).select_related("host").order_by(*order)


def _of_title(word: str) -> Q:
    """A device is called by its kind and its index, such as "GPU 3"."""
    kinds = [kind for kind in DeviceKind if kind.label.lower() == word.lower()]
    indices = [index for index in (_index(word),) if index is not None]
    return Q(kind__in=kinds) | Q(index__in=indices)


def _index(word: str) -> int | None:
    return int(word) if word.isdecimal() and len(word) < _INDEX_DIGITS else None


def _jobs(words: Sequence[str]) -> QuerySet[ReferenceJob]:
    by_number = Q(pk=int(words[0])) if len(words) == 1 and words[0].isdecimal() and len(words[0]) < 19 else Q(pk=None)
    states = {state.label.casefold(): Q(state=state) for state in JobState}
    return queries.jobs().filter(by_number | _all(words, "workload", "host__name", "requested_by", states=states))


def _of_host(host: Host) -> Hit:
    return Hit(host.name, host.cluster, reverse("host", args=[host.name]))


def _of_device(device: Device) -> Hit:
    about = " · ".join(part for part in (device.model, device.uuid) if part)
    return Hit(f"{device.host.name} {device.title}", about, reverse("device", args=[device.uuid]))


def _of_run(run: Run) -> Hit:
    about = " · ".join(dict.fromkeys(part for part in (run.owner or run.user, run.group, run.launch) if part))
    return Hit(run.name, about, reverse("training:run", args=[run.pk]))


def _of_job(job: ReferenceJob) -> Hit:
    about = f"job {job.pk} · {job.get_state_display()}"
    return Hit(f"{job.workload} on {job.host.name}", about, reverse("training:job", args=[job.pk]))
