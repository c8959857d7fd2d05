"""What device models do with a joule and with money, by the reference jobs that ran on them. Asked by the efficiency page.

Only jobs of one workload, precision and size are laid side by side, and only those without a mark of contamination; a model's
figure is the median of its jobs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from fleet.models import Origin
from telemetry.models import DevicePrice
from telemetry.prices.energy_rates import JOULES_PER_KWH, Rates
from training.models import JobState, ReferenceJob
from training.runs.queries import short_name

_NEWEST = 2000


@dataclass(frozen=True, slots=True)
class Kind:
    """What must be equal: jobs of one kind did the same work."""

    workload: str
    precision: str
    size: str

    @property
    def key(self) -> str:
        return f"{self.workload}/{self.precision}/{self.size}"

    @property
    def words(self) -> str:
        return " ".join(part for part in (self.workload, self.precision, self.size) if part and part != "auto")


@dataclass(frozen=True, slots=True)
class Model:
    """Medians of `n` jobs; `samples_per_money` is None where `why` says why."""

    name: str
    full_name: str
    n: int
    samples_per_joule: float
    samples_per_money: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """`kinds` are those that any job was of, the one most models ran first; `models` of the chosen one, best first."""

    kinds: list[Kind]
    chosen: Kind | None
    models: list[Model]

    def by_money(self) -> list[Model]:
        return sorted(
            (model for model in self.models if model.samples_per_money is not None),
            key=lambda model: -(model.samples_per_money or 0),
        )


@dataclass(frozen=True, slots=True)
class _Measured:
    model: str
    samples_per_joule: float
    samples_per_second: float
    watts: float


def hardware(rates: Rates, asked: str = "", cluster: str | None = None) -> Hardware:
    """Return the comparison of the kind of job that is asked for by its key, else of the one that most models ran.

    Of a `cluster` the jobs are those that ran on its hosts.
    """
    measured = _measured(cluster)
    order = sorted(measured, key=lambda kind: (-len({row.model for row in measured[kind]}), kind.key))
    chosen = next((kind for kind in order if kind.key == asked), order[0] if order else None)
    prices = {price.model: price for price in DevicePrice.objects.all()}
    by_model: dict[str, list[_Measured]] = {}
    for row in measured[chosen] if chosen else ():
        by_model.setdefault(row.model, []).append(row)
    models = [_model(name, rows, prices.get(name), rates) for name, rows in by_model.items()]
    return Hardware(order, chosen, sorted(models, key=lambda model: -model.samples_per_joule))


def _measured(cluster: str | None) -> Mapping[Kind, list[_Measured]]:
    jobs = ReferenceJob.objects.filter(
        state=JobState.DONE, host__origin=Origin.REAL, verdict__is_clean=True, device__isnull=False
    ).order_by("-ended_at")
    if cluster is not None:
        jobs = jobs.filter(host__cluster=cluster)
    found: dict[Kind, list[_Measured]] = {}
    columns = jobs.values_list("workload", "device__model", "result", "energy")
    for workload, model, result, energy in columns[:_NEWEST]:
        per_joule, watts = _number(energy, "samples_per_joule"), _number(energy, "mean_watts")
        per_second = _number(result, "samples_per_second")
        if model and per_joule and watts and per_second:
            kind = Kind(workload, str(result.get("precision") or ""), str(result.get("size") or ""))
            found.setdefault(kind, []).append(_Measured(model, per_joule, per_second, watts))
    return found


def _model(name: str, rows: Iterable[_Measured], price: DevicePrice | None, rates: Rates) -> Model:
    of_model = list(rows)
    why = "" if price and rates.tariff else "no purchase price is set" if rates.tariff else "no price per kWh is set"
    money = [_per_money(row, price, rates) for row in of_model] if price and rates.tariff else []
    per_joule = median(row.samples_per_joule for row in of_model)
    return Model(short_name(name), name, len(of_model), per_joule, median(money) if money else None, why)


def _per_money(row: _Measured, price: DevicePrice, rates: Rates) -> float:
    """Return samples for one unit of money: what a second costs is its energy, PUE on top, and its part of the purchase."""
    base = rates.tariff.base_price if rates.tariff else 0.0
    energy = row.watts / JOULES_PER_KWH * base * (rates.pue or 1.0)
    return row.samples_per_second / (energy + price.per_second_at_work)


def _number(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None
