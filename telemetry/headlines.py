"""The six headline figures of the fleet page, from the newest state. Pure; called by the fleet view, which renders them.

A figure over the devices that give it; None, with the reason, where none does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fleet import units
from fleet.models import DeviceKind
from telemetry.health import Health
from telemetry.queries import DeviceState, FleetState


@dataclass(frozen=True, slots=True)
class Headline:
    """`value` is in base unit `unit`; `of` is what it is a part of; `spark` names the sparkline of the chart data."""

    label: str
    value: float | None
    unit: str
    note: str
    href: str
    why_unknown: str = ""
    of: str = ""
    spark: str = ""
    series: str = "s1"
    share: float | None = None

    @property
    def words(self) -> str:
        """The line below the figure: what it is to be read against, or why there is none."""
        return self.why_unknown if self.value is None else self.note


def headlines(state: FleetState) -> list[Headline]:
    return [_reporting(state), _utilisation(state), _power(state), _memory(state), _hottest(state), _clock(state)]


def _reporting(state: FleetState) -> Headline:
    words = {Health.CRIT: "critical", Health.WARN: "warning", Health.SILENT: "silent"}
    wrong = [f"{state.count(health):,} {word}" for health, word in words.items() if state.count(health)]
    n_unread = len(state.counted) - len(state.reporting)
    return Headline(
        label=f"{state.noun[0].upper()}{state.noun[1:]} reporting",
        value=len(state.reporting),
        unit="count",
        of=units.count(len(state.counted)),
        note=", ".join(wrong) or (f"{n_unread:,} without a reading" if n_unread else _of_hosts(state)),
        href="/hosts/",
    )


def _of_hosts(state: FleetState) -> str:
    """Return what is wrong with hosts whose devices are well, such as an alert of their agent or clock."""
    words = {Health.CRIT: "critical", Health.WARN: "warning"}
    counts = {word: sum(host.health is health for host in state.hosts) for health, word in words.items()}
    wrong = [f"{n:,} {'host' if n == 1 else 'hosts'} {word}" for word, n in counts.items() if n]
    return ", ".join(wrong) or "all healthy"


def _utilisation(state: FleetState) -> Headline:
    metric = "gpu_utilization_ratio"
    values = [d.values[metric] for d in _giving(state, metric)]
    note = (
        f"{units.quantity(min(values), 'ratio')} to {units.quantity(max(values), 'ratio')}" if len(values) > 1 else ""
    )
    return Headline(
        label="Mean utilisation",
        value=_mean(values),
        unit="ratio",
        note=note or _of_devices(state, len(values)),
        href="/hosts/?sort=-utilisation",
        why_unknown=_why(state, metric),
        spark="utilisation",
    )


def _power(state: FleetState) -> Headline:
    giving = _giving(state, "power_draw_watts")
    limits = [d.values["power_limit_watts"] for d in giving if "power_limit_watts" in d.values]
    is_whole = len(giving) == len(state.counted)
    note = _of_devices(state, len(giving))
    if is_whole and limits and len(limits) == len(giving):
        note = f"limit {units.quantity(sum(limits), 'watts')}"
    return Headline(
        label="Power",
        value=sum(d.values["power_draw_watts"] for d in giving) if giving else None,
        unit="watts",
        note=note,
        href="/hosts/?sort=-power",
        why_unknown=_why(state, "power_draw_watts"),
        spark="power",
        series="s2",
    )


def _memory(state: FleetState) -> Headline:
    giving = [d for d in _giving(state, "memory_used_bytes") if d.values.get("memory_total_bytes")]
    used = sum(d.values["memory_used_bytes"] for d in giving)
    whole = sum(d.values["memory_total_bytes"] for d in giving)
    note = f"{units.quantity(used / whole, 'ratio')} of {units.quantity(whole, 'bytes')}" if giving else ""
    return Headline(
        label="Memory in use",
        value=used if giving else None,
        unit="bytes",
        note=note,
        href="/hosts/?sort=-memory",
        why_unknown=_why(state, "memory_used_bytes"),
        share=used / whole if giving else None,
        series="s3",
    )


def _hottest(state: FleetState) -> Headline:
    metric = "temperature_celsius"
    hottest = max(_giving(state, metric), key=lambda d: d.values[metric], default=None)
    return Headline(
        label=f"Hottest {state.noun.removesuffix('s')}",
        value=hottest.values[metric] if hottest else None,
        unit="celsius",
        note=f"{hottest.device.host.name} {hottest.device.title}" if hottest else "",
        href=f"/devices/{hottest.device.uuid}/" if hottest else "/hosts/?sort=-temperature",
        why_unknown=_why(state, metric),
    )


def _clock(state: FleetState) -> Headline:
    giving = _giving(state, "sm_clock_hertz")
    shares = [
        d.values["sm_clock_hertz"] / d.values["sm_clock_max_hertz"]
        for d in giving
        if d.values.get("sm_clock_max_hertz")
    ]
    share = _mean(shares)
    return Headline(
        label="Mean SM clock" if has_sms(state.counted) else "Mean core clock",
        value=_mean([d.values["sm_clock_hertz"] for d in giving]),
        unit="hertz",
        note=_of_devices(state, len(giving)) if share is None else f"{units.quantity(share, 'ratio')} of the maximum",
        href="/hosts/",
        why_unknown=_why(state, "sm_clock_hertz"),
    )


def has_sms(devices: Sequence[DeviceState]) -> bool:
    """Tell whether the devices have streaming multiprocessors: NVIDIA's word for its cores."""
    return any(d.device.kind == DeviceKind.NVIDIA for d in devices)


def _giving(state: FleetState, metric: str) -> list[DeviceState]:
    return [d for d in state.reporting if metric in d.values]


def _of_devices(state: FleetState, n: int) -> str:
    """Return of how many devices a figure speaks; "" where it is the only one there is."""
    return "" if n == len(state.counted) == 1 else f"from {n:,} of {len(state.counted):,} {state.noun}"


def _why(state: FleetState, metric: str) -> str:
    """Return why no device gives a metric: the reason of the first that reports."""
    return state.reporting[0].why_absent(metric) if state.reporting else f"none of the {state.noun} reports"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
