"""The headline figures of the fleet page that the newest state gives. Pure; called by the fleet view, which renders them.

A figure over the devices that give it; None, with the reason, where none does. Those that are accounted or that training tells
of come by addresses of their own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import numpy as np

from fleet import units
from fleet.models import DeviceKind
from telemetry.health import Health
from telemetry.newest.day_before import NOT_KNOWN, DayBefore
from telemetry.newest.fleet_state import DeviceState
from telemetry.newest.glance import Glance
from telemetry.store.samples import Floats

_SCOPED = {"/hosts/", "/power/", "/efficiency/", "/runs/"}  # pages that speak of a cluster
BUSY_RATIO = 0.05  # a device that is used more than this has work; beneath it lies what a desktop or a monitor takes


@dataclass(frozen=True, slots=True)
class Headline:
    """`value` is in base unit `unit`, a part of `of`; `spark` names the sparkline of the chart data, `trend` is one."""

    label: str
    value: float | None
    unit: str
    note: str
    href: str = ""
    why_unknown: str = ""
    of: str = ""
    spark: str = ""
    series: str = "s1"
    trend: Sequence[float | None] = ()

    def within(self, cluster: str | None) -> "Headline":
        """Return the same with a link that leads to the cluster."""
        if cluster is None or self.href.partition("?")[0] not in _SCOPED:
            return self
        return replace(self, href=f"{self.href}{'&' if '?' in self.href else '?'}{urlencode({'cluster': cluster})}")

    @property
    def words(self) -> str:
        """The line below the figure: what it is to be read against, or why there is none."""
        return self.why_unknown if self.value is None else self.note


def headlines(glance: Glance, before: DayBefore = NOT_KNOWN) -> list[Headline]:
    """Return what comes before training's figures, and the fleet's power, which comes behind them."""
    return [_reporting(glance), _busy(glance, before), _power(glance, before)]


def arrow(change: float | None, words: str) -> str:
    """Return "↑ 2.4 % in a day" of a change in percent (or points) to the day before; "" where it is not known."""
    if change is None:
        return ""
    return f"{'↑' if change > 0 else '↓' if change < 0 else '='} {abs(change):.1f} {words} in a day"


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the fleet draws now, by the devices of which energy is accounted, too: `n` of `n_all` tell it.

    `words` say what it is made of where it is of two kinds: accelerators, and the CPUs of hosts that have none.
    """

    watts: float | None
    n: int
    n_all: int
    noun: str
    words: str

    @property
    def of_how_many(self) -> str:
        return f"from {self.n:,} of {self.n_all:,} {self.noun}"


def drawn(glance: Glance) -> Drawn:
    counted, apart = map(_known, glance.power_watts)
    n_all, n = int(glance.powered.sum()), counted.size + apart.size
    watts = float(counted.sum() + apart.sum()) if n else None
    if not glance.n_apart:
        return Drawn(watts, n, n_all, glance.noun, "")
    hosts = f"{glance.n_apart:,} CPU host{'' if glance.n_apart == 1 else 's'}"
    if counted.size and not apart.size:
        n_all = int((glance.powered & glance.counted).sum())
        return Drawn(watts, n, n_all, glance.noun, f"{hosts} unknown")
    kinds = ((glance.noun, counted), (hosts, apart))
    words = [f"{name} {units.quantity(float(each.sum()) if each.size else None, 'watts')}" for name, each in kinds]
    return Drawn(watts, n, n_all, "devices", " + ".join(words))


def _reporting(glance: Glance) -> Headline:
    words = {Health.CRIT: "critical", Health.WARN: "warning", Health.SILENT: "silent"}
    wrong = [f"{glance.count(health):,} {word}" for health, word in words.items() if glance.count(health)]
    n_reporting = int(glance.reporting.sum())
    n_unread = glance.n_counted - n_reporting
    return Headline(
        label=f"{glance.noun[0].upper()}{glance.noun[1:]} reporting",
        value=n_reporting,
        unit="count",
        of=units.count(glance.n_counted),
        note=", ".join(wrong) or (f"{n_unread:,} without a reading" if n_unread else _of_hosts(glance)),
        href="/hosts/",
        spark="reporting",
        series="s0",
    )


def _of_hosts(glance: Glance) -> str:
    """Return what is wrong with hosts whose devices are well, such as an alert of their agent or clock."""
    words = {Health.CRIT: "critical", Health.WARN: "warning"}
    counts = {word: glance.n_hosts(health) for health, word in words.items()}
    wrong = [f"{n:,} {'host' if n == 1 else 'hosts'} {word}" for word, n in counts.items() if n]
    return ", ".join(wrong) or "all healthy"


def _busy(glance: Glance, before: DayBefore) -> Headline:
    """Return which share of the devices is at work; below it how much they are used, and how that grew in a day."""
    values = _known(glance.column("gpu_utilization_ratio"))
    grown = None if before.utilisation is None else before.utilisation * 100
    mean = f"mean {units.quantity(float(values.mean()), 'ratio')}" if values.size else ""
    return Headline(
        label="Busy share",
        value=float((values >= BUSY_RATIO).mean()) if values.size else None,
        unit="ratio",
        note=" · ".join(filter(None, (arrow(grown, "pp"), mean))),
        href="/hosts/?sort=-utilisation",
        why_unknown=glance.why_absent("gpu_utilization_ratio"),
        spark="utilisation",
    )


def _power(glance: Glance, before: DayBefore) -> Headline:
    found = drawn(glance)
    return Headline(
        label="Fleet power",
        value=found.watts,
        unit="watts",
        note=" · ".join(filter(None, _about_power(glance, found, before))),
        href="/power/",
        why_unknown=glance.why_absent("power_draw_watts"),
        spark="power",
        series="s2",
    )


def _about_power(glance: Glance, found: Drawn, before: DayBefore) -> Iterator[str]:
    """Yield how it stands to the day before, what it is made of, and how it stands to its limit where all have one."""
    is_whole = found.n == found.n_all
    yield arrow(None if before.power is None else before.power * 100, "%")
    if found.words:
        yield found.words
        yield "" if is_whole else found.of_how_many
        return
    limits = glance.column("power_limit_watts")[~np.isnan(glance.column("power_draw_watts"))]
    if is_whole and not np.isnan(limits).any():
        yield f"limit {units.quantity(float(limits.sum()), 'watts')}"
    elif not found.n == found.n_all == 1:
        yield found.of_how_many


def has_sms(devices: Sequence[DeviceState]) -> bool:
    """Tell whether the devices have streaming multiprocessors: NVIDIA's word for its cores."""
    return any(d.device.kind == DeviceKind.NVIDIA for d in devices)


def _known(values: Floats) -> Floats:
    return values[~np.isnan(values)]
