"""The efficiency page: work by group and run, devices by joule and money, hosts beside their baseline."""

import csv
import io
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from django.core.cache import cache
from django.db.models import F
from django.utils import timezone

from fleet.environment.tariff import Tariff
from fleet.models import DeviceKind, Origin
from fleet.turns import TurnFailed
from telemetry.models import DevicePrice, EnergyPrice
from telemetry.prices.energy_rates import Rates
from telemetry.store.idle_quarters import FREE, QUARTER_MS
from tests.factories import make_chunks, make_device, make_host
from tests.people import signed_in
from tests.telemetry.test_idle_accounts import roll_up
from tests.training.judging.judged import board, judged, with_history
from tests.training.reference_jobs import existing_job, ready_host
from tests.training.runs import START, goes_on, make_run, rank_steps, with_power
from tests.training.stored_steps import enter
from training.efficiency import work as efficiency
from training.efficiency.hardware import hardware
from training.efficiency.work import Report, Work, by_group, by_run
from training.models import JobState, Outcome, Run, RunLife, Verdict
from training.runs import lives
from training.runs.doings import Doings, doings
from training.views import efficiency as efficiency_view

pytestmark = pytest.mark.django_db
WINDOW = f"range=1h&from={START - 60_000}&to={START + 120_000}"
UNPRICED = Rates(None, None, None)
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
        Work("a", [one], Doings(device_hours=3.0, joules=100.0, busy_ratio=1.0, idle_energy_ratio=0.0)),
        Work("b", [other], Doings(device_hours=1.0, joules=300.0, busy_ratio=0.2, idle_energy_ratio=0.4)),
        Work("c", [other], Doings(device_hours=9.0, joules=900.0)),
    ]

    (found,) = by_group(Report(works, 0, 1, n_runs=3, n_told=3)).works

    assert (found.done.busy_ratio, found.done.idle_energy_ratio) == (pytest.approx(0.8), pytest.approx(0.3))


def in_four_quarters(device) -> None:
    """Store that the device drew 600 W in the quarters about START, a quarter of it for nothing."""
    first_ms = START // QUARTER_MS * QUARTER_MS
    for number in range(4):
        start_ms = first_ms + number * QUARTER_MS
        roll_up(device, {FREE: 150 * 900}, drawn=600 * 900, start_ms=start_ms, step_seconds=900)


def works_of(n_seconds: int) -> list[Doings]:
    found = by_run(START - 60_000, START + n_seconds * 1000, timezone.now(), UNPRICED).works
    return [work.done for work in found]


def test_idle_energy_is_a_share_of_what_the_same_quarters_drew():
    run = with_power(make_run("llm", 1, n_steps=2400), 600.0, 2400)
    in_four_quarters(run.ranks.get().device)

    (work,) = works_of(2460)

    assert work.joules == pytest.approx(600 * 2400, rel=0.01)
    assert work.idle_energy_ratio == pytest.approx(0.25)


def test_a_run_within_which_no_whole_quarter_lies_has_no_idle_energy():
    run = with_power(make_run("llm", 1, n_steps=600), 600.0, 600)
    in_four_quarters(run.ranks.get().device)

    (work,) = works_of(660)

    assert work.joules
    assert (work.idle_energy_ratio, work.why_not_idle[:16]) == (None, "no whole quarter")


def test_where_a_host_meter_stands_for_devices_nobody_knows_which_idled():
    known, elsewhere = make_device(make_host("gpu-a01")), make_host("gpu-a02")
    in_four_quarters(known)
    meter = make_device(elsewhere, kind=DeviceKind.NODE, uuid="NODE-gpu-a02")
    enter(known.host, rank_steps(0, 2000), devices=(known.uuid,))
    enter(elsewhere, rank_steps(0, 1000, start_ms=START + 2_100_000), process="p1")
    seconds = range(START + 2_100_000, START + 3_100_000, 1000)
    make_chunks(elsewhere, [meter], list(seconds), {"power_draw_watts": [[2000.0] * len(seconds)]}, ticks=1000)

    (work,) = works_of(3160)

    assert work.joules
    assert (work.idle_energy_ratio, work.busy_ratio) == (None, None)
    assert "meter" in work.why_not_idle


def test_the_life_of_a_run_that_is_over_is_worked_out_once_and_says_what_its_part_would(viewer, runs):
    worked_out = works_of(120)
    cache.clear()
    assert lives.measure(timezone.now(), 10) == 3
    assert lives.measure(timezone.now(), 10) == 0

    with mock.patch.object(efficiency, "doings", side_effect=AssertionError):
        kept = works_of(120)
        page = text(viewer.get(f"/efficiency/work/?{WINDOW}&by=run"))
    assert [replace(done, trend=()) for done in worked_out] == [replace(done, trend=()) for done in kept]
    assert "3 runs" in page


def test_a_life_is_worked_out_again_when_steps_came_late_or_prices_changed_but_not_for_ever(runs):
    now = timezone.now()
    lives.measure(now, 10)
    Run.objects.filter(name="vit").update(last_step_at=F("last_step_at") + timedelta(seconds=1))
    assert lives.measure(now, 10) == 1
    assert RunLife.objects.filter(due_at=None).count() == 3  # they were over long ago

    EnergyPrice.objects.create(price_per_kwh=0.2)
    assert lives.measure(now, 10) == 3


def test_a_life_that_has_just_ended_is_worked_out_again_as_hosts_may_be_late():
    make_run("llm", 1)
    run = Run.objects.get()
    soon = run.last_step_at + timedelta(minutes=6)
    lives.measure(soon, 10)

    assert lives.measure(soon + timedelta(minutes=10), 10) == 0
    assert lives.measure(run.last_step_at + timedelta(hours=1), 10) == 1
    assert lives.measure(run.last_step_at + timedelta(minutes=90), 10) == 0
    assert lives.measure(run.last_step_at + timedelta(hours=2), 10) == 1


def test_runs_for_which_the_time_did_not_suffice_are_told_of_and_not_silently_left_out(viewer, runs, monkeypatch):
    monkeypatch.setattr(efficiency, "_BUDGET_SECONDS", -1.0)

    page = viewer.get(f"/efficiency/work/?{WINDOW}").content.decode()

    assert "1 of 3 runs so far" in page
    assert '<progress class="progress run" max="3" value="1" aria-label="Runs worked out">' in page
    assert "2 runs to go: the figures below change until all are worked out" in page
    assert 'title="being worked out"' in page
    assert 'hx-trigger="load delay:500ms"' in page  # it goes on also where live updates are paused


def test_figures_of_before_are_shown_until_the_new_ones_are_there(runs, monkeypatch):
    for run in Run.objects.all():
        goes_on(run)
    step_ms = 900_000
    start = START // step_ms * step_ms - 2 * step_ms
    now = timezone.now()
    assert by_run(start, start + 4 * step_ms, now, UNPRICED).is_whole

    monkeypatch.setattr(efficiency, "_BUDGET_SECONDS", -1.0)
    looks = [by_run(start + step_ms + at, start + 5 * step_ms + at, now, UNPRICED) for at in (0, 60_000, 899_999)]

    assert [look.n_told for look in looks] == [1, 2, 3]
    assert [work.later for look in looks for work in look.works] == [""] * 9


@pytest.fixture
def broken(runs, monkeypatch):
    """The newest run is one of which nothing can be worked out."""
    newest = Run.objects.get(name="vit")
    Run.objects.filter(pk=newest.pk).update(last_step_at=F("last_step_at") + timedelta(seconds=1))
    for place in (efficiency, lives):
        monkeypatch.setattr(place, "doings", lambda run, *part: doings(run, *part) if run != newest else 1 / 0)


def test_a_run_whose_life_cannot_be_worked_out_keeps_back_no_older_one(broken):
    with pytest.raises(TurnFailed):
        lives.measure(timezone.now(), 10)

    assert set(RunLife.objects.values_list("run__name", flat=True)) == {"llm-7b", "llm-1b"}


def test_a_run_that_cannot_be_worked_out_says_so_beside_the_others(viewer, broken):
    page = viewer.get(f"/efficiency/work/?{WINDOW}&by=run").content.decode()

    assert page.count("could not be worked out; the server&#x27;s log says why") >= 5
    assert "3 runs" in page
    assert "its devices are not known" not in page


def test_a_run_that_began_before_the_time_counts_with_its_part_alone():
    make_run("llm", 1, n_steps=400)
    lives.measure(timezone.now(), 10)
    start = START // 60_000 * 60_000 + 60_000
    part = by_run(start, start + 120_000, timezone.now(), UNPRICED).works[0].done
    (whole,) = works_of(600)

    assert part.device_hours == pytest.approx(120 / 3600)
    assert whole.device_hours == pytest.approx(400 / 3600, rel=0.01)


@pytest.mark.parametrize(("days", "step_ms"), [(0.01, 60_000), (0.1, 900_000), (1, 900_000), (7, 3_600_000)])
def test_the_longer_the_time_the_coarser_its_ends(days, step_ms):
    length = int(days * 86_400_000)
    start, end = efficiency.whole_steps(START, START + length)

    assert (start % step_ms, end % step_ms) == (0, 0)
    assert START - step_ms < start <= START


def test_the_table_comes_in_pages_and_the_file_is_whole(viewer, runs, monkeypatch):
    monkeypatch.setattr(efficiency_view, "ROWS_A_PAGE", 2)

    page = viewer.get(f"/efficiency/work/?{WINDOW}&by=run&sort=name&page=2").content.decode()
    assert "vit" in page
    assert "llm-7b" not in page
    assert 'sort=name&amp;page=1" rel="prev"' in page
    file = viewer.get(f"/efficiency/work/?{WINDOW}&by=run&format=csv").content.decode()
    assert len(list(csv.DictReader(io.StringIO(file)))) == 3


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


def test_the_work_of_a_cluster_is_that_of_the_runs_on_its_hosts(viewer, runs):
    make_run("resnet", 1, host=make_host("gpu-b01", cluster="atlas"))

    page = text(viewer.get(f"/efficiency/work/?{WINDOW}&by=run&cluster=atlas"))

    assert ("resnet" in page, "llm" in page, "1 run " in page) == (True, False, True)
    whole = viewer.get("/efficiency/?cluster=atlas").content.decode()
    assert whole.count("cluster=atlas") > 4
    assert viewer.get("/efficiency/?cluster=none").status_code == 404
