"""The efficiency page: work by group and run, devices by joule and money, hosts beside their baseline."""

import csv
import io
import re
from datetime import UTC, datetime

import pytest
from django.utils import timezone

from fleet.models import DeviceKind, Origin
from fleet.tariff import Tariff
from telemetry.energy_rates import Rates
from telemetry.models import DevicePrice
from tests.people import signed_in
from tests.training.judging.judged import board, judged, with_history
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.runs import START, make_run
from training.efficiency import Report, Work, by_group
from training.hardware_efficiency import hardware
from training.models import JobState, Outcome, Run, Verdict

pytestmark = pytest.mark.django_db
WINDOW = f"range=1h&from={START - 60_000}&to={START + 120_000}"
PANELS = ("/efficiency/work/", "/efficiency/hardware/", "/efficiency/hosts/")


@pytest.fixture
def viewer():
    return signed_in()


def text(answer) -> str:
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())).replace("\u202f", " ")


@pytest.fixture
def runs():
    """Two runs of one group, each on GPUs of its own, and one of another."""
    for name, group in (("llm-7b", "nlp"), ("llm-1b", "nlp"), ("vit", "vision")):
        Run.objects.filter(pk=make_run(name, 1).pk).update(group=group)


def test_groups_hold_the_sums_of_their_runs(viewer, runs):
    rows = list(csv.DictReader(io.StringIO(viewer.get(f"/efficiency/work/?{WINDOW}&format=csv").content.decode())))
    of_runs = csv.DictReader(io.StringIO(viewer.get(f"/efficiency/work/?{WINDOW}&by=run&format=csv").content.decode()))
    hours = sum(float(row["device_hours"]) for row in of_runs if row["run"].startswith("llm"))

    by_group = {row["group"]: row for row in rows}
    assert {name: row["runs"] for name, row in by_group.items()} == {"nlp": "2", "vision": "1"}
    assert float(by_group["nlp"]["device_hours"]) == pytest.approx(hours)
    assert hours == pytest.approx(2 * 40 / 3600, rel=0.1)


def test_busy_time_counts_by_device_hours_and_idle_energy_by_energy(runs):
    one, other = Run.objects.filter(group="nlp")
    works = [
        Work("a", [one], device_hours=3.0, joules=100.0, busy=1.0, idle=0.0),
        Work("b", [other], device_hours=1.0, joules=300.0, busy=0.2, idle=0.4),
        Work("c", [other], device_hours=9.0, joules=900.0),
    ]

    (found,) = by_group(Report(works, 3, is_whole=True)).works

    assert (found.busy, found.idle) == (pytest.approx(0.8), pytest.approx(0.3))


def test_what_is_not_known_says_why_and_what_is_not_set_is_asked_for(viewer, runs):
    page = viewer.get(f"/efficiency/work/?{WINDOW}").content.decode()

    assert 'title="no price per kWh is set"' in page
    assert "Set a price per kWh to see what it costs" in page
    assert 'title="no energy of its devices is known"' in page


def test_the_order_stands_in_the_address(viewer, runs):
    page = text(viewer.get(f"/efficiency/work/?{WINDOW}&by=run&sort=name"))

    assert page.index("llm-1b") < page.index("llm-7b") < page.index("vit")
    assert viewer.get("/efficiency/work/?sort=colour").status_code == 400
    assert viewer.get("/efficiency/?by=colour").status_code == 400


def measured(
    model: str, per_joule: float, watts: float, *, is_clean: bool = True, origin: Origin = Origin.REAL
) -> None:
    """A finished job on a device of a model, with its verdict."""
    host = ready_host(f"h{Verdict.objects.count()}", DeviceKind.NVIDIA, origin=origin)
    host.devices.update(model=model)
    job = existing_job(
        host, JobState.DONE, ended_at=timezone.now(),
        result={"samples_per_second": per_joule * watts, "precision": "bf16", "size": "auto"},
        energy={"samples_per_joule": per_joule, "mean_watts": watts},
    )  # fmt: skip
    now = datetime.now(UTC)
    Verdict.objects.create(job=job, outcome=Outcome.PASS, is_clean=is_clean, ended_at=now, judged_at=now)


def test_a_models_figure_is_the_median_of_its_clean_jobs_on_real_hosts():
    for per_joule in (2.0, 3.0, 100.0):
        measured("NVIDIA L40S", per_joule, 300.0)
    measured("NVIDIA L40S", 1000.0, 300.0, is_clean=False)
    measured("NVIDIA L40S", 1000.0, 300.0, origin=Origin.SIMULATED)

    (found,) = hardware(Rates(None, None, None)).models
    assert (found.n, found.samples_per_joule) == (3, 3.0)
    assert found.why == "no price per kWh is set"


def test_samples_for_money_count_energy_pue_and_purchase():
    measured("NVIDIA L40S", 2.0, 360.0)
    DevicePrice.objects.create(model="NVIDIA L40S", price=31_557.6, years=1, used_ratio=1.0)  # 0.001 a second

    (found,) = hardware(Rates(Tariff(0.5), None, 1.2)).models
    energy = 360 / 3.6e6 * 0.5 * 1.2
    assert found.samples_per_money == pytest.approx(720 / (energy + 0.001))


def test_missing_prices_are_asked_for_by_model(viewer, settings):
    settings.STEPWATT_TARIFF = Tariff(0.2)
    measured("NVIDIA L40S", 2.0, 300.0)
    page = text(viewer.get("/efficiency/hardware/"))

    assert "2 samples/J" in page
    assert re.search(r"Set what L40S\w* .*cost", page), page


def test_hosts_stand_by_their_deviation_from_the_baseline(viewer):
    verdict = judged(with_history(board("a")), 1.2)
    page = text(viewer.get("/efficiency/hosts/"))

    assert re.search(r"\ba\b.*gpt-train.*−16\.7", page) or "−16.7" in page
    rows = list(csv.DictReader(io.StringIO(viewer.get("/efficiency/hosts/?format=csv").content.decode())))
    assert rows[0]["host"] == verdict.job.host.name


def test_an_empty_fleet_is_told_what_to_do(viewer):
    assert "No run had steps" in text(viewer.get("/efficiency/work/"))
    assert "Run one" in text(viewer.get("/efficiency/hardware/"))
    assert "No host has a baseline yet" in text(viewer.get("/efficiency/hosts/"))
    assert text(viewer.get("/efficiency/"))


def test_a_long_time_ago_is_out_of_the_window(viewer, runs):
    assert "No run had steps" in text(viewer.get("/efficiency/work/?range=1h"))


def test_a_stranger_sees_nothing(client):
    for path in ("/efficiency/", *PANELS):
        assert client.get(path).status_code == 302
