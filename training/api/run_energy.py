"""Energy by run in the HTTP API: what each run drew of a window, from its own devices. Called by fleet/api/api.py, by name."""

from datetime import UTC, datetime

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from telemetry.accounts.account import Scope
from telemetry.api.questions import Moment, Span
from telemetry.prices.energy_rates import Rates
from training.models import Run
from training.runs.energy import RunEnergy, by_run
from training.runs.members import members

router = Router()


class RunEnergyQuestion(Span):
    """The runs that had steps in the span, the newest first."""

    start: Moment | None = None
    end: Moment | None = None
    limit: int = Field(20, ge=1, le=100)
    offset: int = Field(0, ge=0, le=10**9)


class RunEnergyItem(Schema):
    """Of the part of the span in which the run was there. `joules` and what follows are null where nothing is known: `why`.

    `scope` is device, or node where the run's devices are not known. `shared_with` are runs that used some of its devices at the
    same time: what these drew is shared out by the time of the steps. `cost_estimated_share` and `unreadable` are those of
    energy accounts.
    """

    run: int
    name: str
    launch: str
    joules: float | None
    kwh: float | None
    estimated_share: float | None
    covered_share: float | None
    unreadable: str | None
    cost: float | None
    cost_estimated_share: float | None
    grams_co2: float | None
    scope: Scope
    devices: int
    shared_with: list[str]
    why: str

    @classmethod
    def of(cls, run: Run, found: RunEnergy) -> "RunEnergyItem":
        account = found.account
        return cls(
            run=run.pk, name=run.name, launch=run.launch, joules=account.joules, kwh=account.kwh,
            estimated_share=account.estimated_share, covered_share=account.covered_share, unreadable=account.unread or None,
            cost=account.cost, cost_estimated_share=account.cost_estimated_share, grams_co2=account.grams_co2, scope=found.scope,
            devices=len(found.devices), shared_with=list(found.shared_with), why=found.why,
        )  # fmt: skip


class RunEnergyAnswer(Schema):
    start: datetime
    end: datetime
    currency: str | None
    pue: float | None
    items: list[RunEnergyItem]
    count: int


@router.get("/runs/energy", response=RunEnergyAnswer)
def runs_energy(request: HttpRequest, asked: Query[RunEnergyQuestion]) -> RunEnergyAnswer:
    """Account for the energy of each run. Runs that shared a device at the same time have parts of it that add up."""
    start_ms, end_ms = asked.milliseconds(timezone.now())
    start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (start_ms, end_ms))
    found = Run.objects.filter(started_at__lt=end, last_step_at__gt=start).order_by("-last_step_at", "-pk")
    shown = list(found[asked.offset : asked.offset + asked.limit])
    rates = Rates.in_force()
    energies = by_run({run: members(run) for run in shown}, start_ms, end_ms, rates)
    return RunEnergyAnswer(
        start=start,
        end=end,
        currency=rates.currency or None,
        pue=rates.pue,
        items=[RunEnergyItem.of(run, energies[run]) for run in shown if run in energies],
        count=found.count(),
    )
