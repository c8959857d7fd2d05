"""The headline figures of a run, each with what it was made of. Called by the run's views; asks nothing."""

from collections.abc import Iterator
from dataclasses import dataclass

from fleet import units
from training.figure import Figure
from training.runs.figures import RunFigures
from training.runs.goodput import Spent
from training.views.run_panels import LABELS

Parts = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Tile:
    """A value in base unit `unit`, or `why` there is none; `note` stands below it, `parts` open on asking."""

    key: str
    label: str
    value: float | None
    unit: str
    why: str
    note: str
    parts: Parts


def tiles(found: RunFigures) -> list[Tile]:
    """Return the six tiles of the page."""
    return [
        _step_time(found),
        _throughput(found),
        _mfu(found),
        _per_joule(found),
        _energy_per_step(found),
        _goodput(found),
    ]


def throughput(found: RunFigures) -> tuple[Figure, Figure]:
    """Return what the loop's work is counted in, tokens where it tells them, and the other one."""
    if found.tokens_per_second.value is None:
        return found.samples_per_second, found.tokens_per_second
    return found.tokens_per_second, found.samples_per_second


def per_joule(found: RunFigures) -> Figure:
    """Return the work per joule, in what the throughput is counted in."""
    return found.samples_per_joule if found.tokens_per_second.value is None else found.tokens_per_joule


def money(amount: float, currency: str) -> str:
    """Return an amount in its currency, without one where none is set."""
    return str(units.quantity(amount, currency))


def _step_time(found: RunFigures) -> Tile:
    times = found.step_times
    note = (
        "" if times.p95 is None else f"p95 {units.quantity(times.p95, 'seconds')} · {units.count(times.n_steps)} steps"
    )
    parts = [] if times.slowest is None else [
        ("Slowest", str(units.quantity(times.slowest, "seconds"))),
        ("Counted", f"{units.count(times.n_steps)} global steps, each as long as its slowest rank's"),
        *([("Warm-up, left out", units.count(times.n_warmup))] if times.n_warmup else []),
    ]  # fmt: skip
    return Tile("step", "Step time, median", times.median, "seconds", "no training step in this window", note, parts)


def _throughput(found: RunFigures) -> Tile:
    shown, other = throughput(found)
    noun = "Tokens" if shown.unit == "tokens_per_second" else "Samples"
    note = "" if other.value is None else str(units.quantity(other.value, other.unit))
    parts = [(f"{noun} ÷ wall time", _division(shown))] if shown.parts else []
    if shown.remark:
        parts.append(("Note", shown.remark))
    return Tile("throughput", "Throughput", shown.value, shown.unit, shown.why, note, parts)


def _division(figure: Figure) -> str:
    return f"{units.number(figure.parts['amount'])} ÷ {units.duration(figure.parts['seconds'])}"


def _mfu(found: RunFigures) -> Tile:
    detail, below = found.mfu_detail, found.mfu_detail.denominator
    peak = below.flops_per_second
    doubt = " · doubtful" if detail.doubts else ""
    note = "" if peak is None or found.mfu.value is None else f"of {units.quantity(peak, 'flop_per_second')}{doubt}"
    return Tile("mfu", "MFU", found.mfu.value, "ratio", found.mfu.why, note, list(_mfu_parts(found)))


def _mfu_parts(found: RunFigures) -> Iterator[tuple[str, str]]:
    detail, below = found.mfu_detail, found.mfu_detail.denominator
    if detail.achieved_flops_per_second is not None:
        yield "Numerator", str(units.quantity(detail.achieved_flops_per_second, "flop_per_second"))
        yield "FLOPs", detail.method
    if found.flops_per_sample is not None:
        yield "Of a sample", str(units.quantity(found.flops_per_sample, "flop"))
    for peak in below.peaks:
        each = units.quantity(peak.spec.value, "flop_per_second")
        yield "Denominator", f"{peak.n_devices} × {peak.name} at {each}, dense {below.dtype}; {peak.spec.sentence}"
    if found.mfu_in_steps.value is not None:
        yield "Within training steps alone", str(units.quantity(found.mfu_in_steps.value, "ratio"))
    if found.ofu.value is not None:
        yield "OFU, an estimate", f"{units.quantity(found.ofu.value, 'ratio')}: {found.ofu.remark}"
    elif found.ofu.why:
        yield "OFU, an estimate", f"{units.UNKNOWN} ({found.ofu.why})"


def _per_joule(found: RunFigures) -> Tile:
    shown = per_joule(found)
    of_tokens = shown.unit == "tokens_per_joule"
    other = found.samples_per_joule if of_tokens else found.tokens_per_joule
    each = found.joules_per_token if of_tokens else found.joules_per_step
    words = (
        [str(units.quantity(each.value, "joules_each")) + (" per token" if of_tokens else " per step")]
        if each.value is not None
        else []
    )
    words += [str(units.quantity(other.value, other.unit))] if other.value is not None else []
    label = "Tokens per joule" if of_tokens else "Samples per joule"
    parts = [("Energy", found.joules.remark)] if found.joules.remark else []
    return Tile("joule", label, shown.value, shown.unit, shown.why, " · ".join(words), parts)


def _energy_per_step(found: RunFigures) -> Tile:
    shown, whole = found.joules_per_step, found.joules
    note, parts = "", Parts()
    if whole.value is not None and found.energy is not None and found.energy.account.covered_seconds:
        n_meters = len(found.energy.devices)
        note = f"{units.quantity(found.mean_watts, 'watts')} mean draw"
        parts = [
            ("Energy of the window", str(units.quantity(whole.value, "joules"))),
            ("From", f"{n_meters} meter{'' if n_meters == 1 else 's'} {whole.remark}"),
            ("Cost", found.cost.why if found.cost.value is None else money(found.cost.value, found.cost.unit)),
            (
                "CO₂",
                found.grams_co2.why
                if found.grams_co2.value is None
                else str(units.quantity(found.grams_co2.value, "grams")),
            ),
        ]
    return Tile("energy", "Energy per step", shown.value, "joules_each", shown.why, note, parts)


def _goodput(found: RunFigures) -> Tile:
    spent = found.goodput
    lost = {kind: seconds for kind, seconds in spent.seconds.items()
            if kind not in {Spent.PRODUCTIVE, Spent.OUTSIDE} and seconds > 0}  # fmt: skip
    lived = sum(lost.values()) + spent.seconds.get(Spent.PRODUCTIVE, 0.0)
    greatest = max(lost, key=lambda kind: lost[kind], default=None)
    note = (
        "" if greatest is None or not lived else f"{LABELS[greatest]} {units.quantity(lost[greatest] / lived, 'ratio')}"
    )
    parts = [("Share of the wall time in steps that count", f"of {units.duration(lived)}")] if lived else []
    return Tile("goodput", "Goodput", spent.share, "ratio", "the run did not go on in this window", note, parts)
