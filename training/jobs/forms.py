"""The launch form as it stands in a query string or a POST: workload, its parameters as text, hosts, and what is wrong.

Called by the pages of launches and schedules. It offers and explains; what may start is decided by training/jobs/launch.py alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import takewhile
from operator import attrgetter

from django.db.models import Q
from django.http import QueryDict

from fleet.models import Device, DeviceKind, Host, Origin, in_place
from training.jobs import queries, readiness
from training.jobs.asked import Asked
from training.jobs.candidates import DeviceRow, HostRow
from training.jobs.picker import CHOSEN_LISTED, LISTED, HostChoice, Offer, offer
from training.jobs.readiness import Hindrance
from training.jobs.selection import NothingSelected, Selection, select
from training.workloads.catalog import read_texts, validate, why_not_as_one
from training.workloads.params import Param, ParamsInvalid
from training.workloads.workload import Workload

_SHOWN = 12  # of hosts that are named beside the form


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter with the text that stands in its input."""

    param: Param
    text: str
    error: str


@dataclass(frozen=True)
class LaunchForm:
    """`errors` by field: workload, hosts, selection, labels, n_devices, or a parameter's name.

    `words` are what hosts are looked for by, in lower case; `left_out` are hosts that a selection fits and that have a job;
    `against` what would refuse the launch without a force.
    """

    workloads: list[Workload]
    workload: Workload
    fields: list[Field]
    offer: Offer
    asked: Asked
    chosen: list[HostChoice]
    left_out: list[str]
    against: list[Hindrance]
    words: Sequence[str] = ()
    force_reason: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[HostChoice]:
        return self.offer.rows

    @property
    def is_long(self) -> bool:
        """Tell whether there are more hosts than a list of them holds: then the server looks for them."""
        return self.offer.n_hosts > LISTED

    @property
    def refusals(self) -> list[str]:
        """Return why hosts were refused: their rows stand first."""
        return [choice.refusal for choice in takewhile(attrgetter("refusal"), self.hosts)]

    @property
    def listed(self) -> list[HostChoice]:
        """Return the rows by hand: what a selection takes beyond them is told in numbers, and so are most of very many chosen."""
        if self.asked.by != "hand":
            return self.hosts[:LISTED]
        unlisted = {choice.host.pk for choice in self.unlisted}
        return [choice for choice in self.hosts if choice.host.pk not in unlisted]

    @cached_property
    def unlisted(self) -> list[HostChoice]:
        """Return those asked for by hand that have no row; what was refused has one first, then what fits the words."""
        asked = [choice for choice in self.hosts if choice.is_chosen or choice.refusal]
        return sorted(asked, key=lambda choice: (not choice.refusal, not choice.fits(self.words)))[CHOSEN_LISTED:]

    @property
    def may_be_distributed(self) -> bool:
        """Tell whether the jobs may be the ranks of one; one that was chosen already stays to be seen, with what is wrong."""
        return self.workload.is_distributable or self.asked.per == "distributed"

    @property
    def shown(self) -> list[HostChoice]:
        return self.chosen[:_SHOWN]

    @property
    def n_more(self) -> int:
        return max(0, len(self.chosen) - _SHOWN)

    @cached_property
    def devices(self) -> list[DeviceRow]:
        """Return the device of each job."""
        return [device for choice in self.chosen for device in choice.devices]

    @property
    def models(self) -> list[tuple[str, int]]:
        """Return (model, how many devices of it get a job)."""
        counts: dict[str, int] = {}
        for device in self.devices:
            counts[device.name] = counts.get(device.name, 0) + 1
        return list(counts.items())

    @property
    def can_choose_device(self) -> list[DeviceRow]:
        """Return what may be chosen from where one host is to run one job."""
        if self.asked.by == "selection" or len(self.chosen) != 1 or self.asked.selection.per == "device":
            return []
        whole = [each for each in self.chosen[0].host.devices if each.is_whole]
        ordered = sorted(whole, key=lambda each: (not each.is_accelerator, each.kind, in_place(each.index)))
        return ordered if len(whole) > 1 else []

    @property
    def unknown_duration(self) -> list[str]:
        return [choice.host.name for choice in self.chosen if choice.seconds is None]

    @property
    def seconds(self) -> float | None:
        """How long the slowest of the chosen hosts took last time; None where one has never run the workload."""
        known = [choice.seconds for choice in self.chosen if choice.seconds is not None]
        return max(known) if known and len(known) == len(self.chosen) else None

    @property
    def joules(self) -> float | None:
        """What the measured steps of the chosen hosts' last runs took together; None where one is not known."""
        known = [choice.joules for choice in self.chosen if choice.joules is not None]
        return sum(known) if known and len(known) == len(self.chosen) else None

    @property
    def clusters(self) -> list[str]:
        real = Host.objects.filter(origin=Origin.REAL).exclude(cluster="")
        return list(real.order_by("cluster").values_list("cluster", flat=True).distinct())

    @property
    def known_models(self) -> list[str]:
        real = Device.objects.filter(host__origin=Origin.REAL).exclude(Q(model="") | Q(kind=DeviceKind.NODE))
        return list(real.order_by("model").values_list("model", flat=True).distinct())


def launch_form(
    data: QueryDict, asked: Asked, now: datetime, errors: Mapping[str, str], refused: Mapping[str, str] | None = None,
    *, waits: bool = False,
) -> LaunchForm:  # fmt: skip
    """Return the form that `data` describes; `refused` are the hosts at which a launch failed. The same queries for any fleet.

    One that `waits` for its hosts, as a schedule does, means those that have a job now, too.
    """
    workloads = queries.workloads()
    workload = next((each for each in workloads if each.name == data.get("workload")), workloads[0])
    fields = [Field(p, data.get(p.name, str(p.default)), errors.get(p.name, "")) for p in workload.params]
    errors = {**asked.errors, **errors}
    if asked.per == "distributed" and "workload" not in errors and (why_not := why_not_as_one(workload)):
        errors["per"] = why_not
    names, known, left_out = set(asked.names), list[HostRow](), list[str]()
    if asked.by == "selection":
        known, left_out, why = _selected(asked, waits=waits)
        names = {host.name for host in known}
        errors |= {"selection": why} if why and not asked.errors else {}
    by_hand = Selection(per=asked.selection.per, n_devices=asked.selection.n_devices)
    means = asked.selection if asked.by == "selection" else by_hand
    found = offer(workload, means, names, refused or {}, now, words=data.get("q", ""), waits=waits, known=known)
    chosen = _with_device([choice for choice in found.rows if choice.is_chosen], asked)
    return LaunchForm(
        workloads, workload, fields, found, asked, chosen, left_out, _against(chosen, found, workload, data),
        data.get("q", "").lower().split(), data.get("force_reason", ""), errors,
    )  # fmt: skip


def _selected(asked: Asked, *, waits: bool) -> tuple[list[HostRow], list[str], str]:
    """Return (the hosts that are selected, the names of those that are left out, why none is)."""
    if asked.selection.is_empty:
        return [], [], ""
    try:
        found = select(asked.selection, with_busy=waits)
    except NothingSelected as error:
        return [], [], str(error)
    return found.hosts, found.busy, ""


def _with_device(chosen: list[HostChoice], asked: Asked) -> list[HostChoice]:
    if asked.by == "selection" or len(chosen) != 1 or asked.selection.per == "device" or not asked.device:
        return chosen
    named = [device for device in chosen[0].host.devices if device.uuid == asked.device]
    return [replace(chosen[0], devices=named or chosen[0].devices)]


def _against(chosen: Sequence[HostChoice], found: Offer, workload: Workload, data: QueryDict) -> list[Hindrance]:
    """Return what speaks against the launch as it stands; with parameters that cannot be read, by the workload's own."""
    texts = {param.name: data.get(param.name, "") for param in workload.params}
    try:
        params = validate(workload.name, read_texts(workload.name, texts))[1]
    except ParamsInvalid:
        params = validate(workload.name, {})[1]
    targets = [(choice.host, device) for choice in chosen for device in choice.devices]
    return readiness.hindrances(targets, workload.name, params, found.processes) if targets else []
