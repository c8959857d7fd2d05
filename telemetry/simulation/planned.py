"""Faults that somebody asked for, in place of those that are drawn: which, of whom, and when. Called by the simulated fleet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from telemetry.simulation.faults import Fault, FaultKind

NONE = "none"
_FORM = "KIND[,host=N][,gpu=N][,after=SECONDS][,for=SECONDS]"
_LONGEST_SECONDS = 30 * 86_400.0


@dataclass(frozen=True, slots=True)
class Planned:
    """One fault: the host by its number, from 1 as in its name, and the GPU by its index; seconds from the fleet's present on."""

    kind: FaultKind
    host: int = 1
    device: int = 0
    after_seconds: float = 60.0
    seconds: float = 600.0


def read(text: str) -> Planned | None:
    """Return the fault that a person wrote as in _FORM; None for "none". Raises ValueError, with what is wrong."""
    kind, *parts = text.split(",")
    if text == NONE:
        return None
    if kind not in set(FaultKind):
        raise ValueError(f"{kind!r}: expected one of {', '.join(FaultKind)}, or {NONE}")
    given = dict(_field(part) for part in parts)
    known = {"host": 1.0, "gpu": 0.0, "after": 60.0, "for": 600.0}
    if unknown := given.keys() - known.keys():
        raise ValueError(f"{min(unknown)!r}: expected {_FORM}")
    found = known | given
    return Planned(FaultKind(kind), int(found["host"]), int(found["gpu"]), found["after"], found["for"])


def _field(part: str) -> tuple[str, float]:
    name, _, text = part.partition("=")
    is_place = name in {"host", "gpu"}
    try:
        value = float(int(text) if is_place else float(text))
    except ValueError:
        raise ValueError(f"{part!r}: expected {_FORM}") from None
    if not 0 <= value <= _LONGEST_SECONDS:
        raise ValueError(f"{part!r}: expected a number from 0 to {_LONGEST_SECONDS:.0f}")
    return name, value


def why_not(planned: Sequence[Planned], n_hosts: int, n_gpus: int) -> str:
    """Return what a fleet of so many hosts and GPUs has not, "" where all of them can be."""
    for each in planned:
        if not 1 <= each.host <= n_hosts:
            return f"{each.kind}: there is no host {each.host} among {n_hosts}"
        if each.device >= n_gpus:
            return f"{each.kind}: there is no GPU {each.device} among {n_gpus}"
    return ""


def faults(planned: Sequence[Planned], present: float) -> Iterator[Fault]:
    """Yield them in order of time; `present` is when the fleet begins to live on the clock, UTC seconds."""
    for each in sorted(planned, key=lambda each: each.after_seconds):
        start = present + each.after_seconds
        yield Fault(each.kind, each.host - 1, each.device, start, start + each.seconds)
