"""The power page: real accounts, asked-for settings, panels of their own, and files."""

import csv
import io
import re

import pytest
from django.core.cache import cache
from django.utils import timezone

from fleet.environment.tariff import Tariff
from fleet.models import Host
from telemetry.health import thresholds
from telemetry.views.power_panels import axis_of
from tests.factories import GPU_READINGS, make_chunks, make_device, make_host, make_latest
from tests.people import signed_in
from tests.telemetry.test_accounts import roll_up

pytestmark = pytest.mark.django_db
PANELS = ("/power/days/", "/power/groups/", "/power/idle/")
WATTS = 400.0
H100 = "NVIDIA H100 80GB HBM3"


def drawing_host(name: str, cluster: str, watts: float = WATTS, model: str = H100, **fields: object) -> Host:
    """A host whose GPU has drawn the same for ten minutes, until now."""
    host = make_host(name, cluster=cluster, **fields)
    device = make_device(host, model=model)
    make_latest(host, {device: {**GPU_READINGS, "power_draw_watts": watts}})
    now_ms = int(timezone.now().timestamp() * 1000) // 60_000 * 60_000
    times = [now_ms - 600_000 + 10_000 * i for i in range(61)]
    columns = {"power_draw_watts": [[watts] * 61], "gpu_utilization_ratio": [[0.9] * 61]}
    make_chunks(host, [device], times, columns)
    for minute in range(1, 11):
        roll_up(host, {device: watts * 60}, start_ms=now_ms - 60_000 * minute, step_seconds=60)
    return host


def text(answer) -> str:
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode())).replace("\u202f", " ")


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


@pytest.fixture
def two(settings):
    settings.STEPWATT_CURRENCY = "EUR"
    drawing_host("a", "atlas")
    drawing_host("b", "borealis", 200.0, labels={"team": "vision"})


@pytest.fixture
def viewer():
    return signed_in()


def test_the_tiles_hold_what_is_measured_and_ask_for_what_is_not_set(viewer, two):
    page = text(viewer.get("/power/?range=1h"))

    assert "Power now 600 W" in page
    assert "Energy, 1 h 0.100 kWh" in page
    assert "Cost — set a price per kWh" in page
    assert "CO₂ — set the grams per kWh" in page
    assert "PUE — set it" in page


def test_what_is_set_makes_cost_and_co2(viewer, two, settings):
    settings.STEPWATT_TARIFF, settings.STEPWATT_GRAMS_CO2_PER_KWH, settings.STEPWATT_PUE = Tariff(1000.0), 400.0, 1.25
    page = text(viewer.get("/power/?range=1h"))

    cost = float(re.search(r"Cost ([\d.]+) EUR", page)[1])
    assert cost == pytest.approx(0.1 * 1000 * 1.25, rel=0.05)
    assert "PUE 1.25" in page
    assert "400 g/kWh" in page


def test_a_budget_stands_beside_the_power_and_as_a_line(viewer, two):
    thresholds.set_value("power_budget", "watts", 1200)
    answer = viewer.get("/power/?range=1h")

    assert "50 % of the budget of 1.20 kW" in text(answer)
    assert answer.context["figure"]["layout"]["shapes"][0]["y0"] == 1200


@pytest.mark.parametrize(("by", "groups"), [("cluster", 2), ("model", 1), ("label:team", 2), ("host", 2)])
def test_figure_and_values_have_the_same_groups(viewer, two, by, groups):
    page = viewer.get(f"/power/?range=1h&by={by}")
    chart = viewer.get(f"/power/arrays/?range=1h&by={by}").json()["charts"]["fig-power"]

    assert len(page.context["figure"]["data"]) == len(chart["traces"]) == 2 * groups
    assert max(v for v in chart["traces"][-1]["y"] if v is not None) == pytest.approx(600)


def test_the_table_of_groups_is_sorted_by_its_address_and_its_file_is_in_base_units(viewer, two):
    page = viewer.get("/power/groups/?range=1h&sort=energy").content.decode()
    rows = list(csv.DictReader(io.StringIO(viewer.get("/power/groups/?range=1h&format=csv").content.decode())))

    assert page.index("borealis") < page.index("atlas")
    assert [row["cluster"] for row in rows] == ["atlas", "borealis"]
    assert float(rows[0]["joules"]) == pytest.approx(WATTS * 600, rel=0.05)
    assert rows[0]["cost"] == ""


def test_every_panel_answers_alone_and_as_a_file(viewer, two):
    for path in PANELS:
        assert 'class="panel' in viewer.get(path).content.decode()
        assert viewer.get(f"{path}?format=csv")["Content-Type"].startswith("text/csv")
    head = viewer.get("/power/arrays/?range=1h&format=csv").content.decode().splitlines()[0]
    assert head == "time,atlas_watts,borealis_watts"


def test_today_stands_among_the_days(viewer, two):
    page = text(viewer.get("/power/days/"))

    assert re.search(r"[A-Z][a-z]{2} \d{1,2} [A-Z][a-z]{2} so far", page)
    assert "Set a price per kWh and the CO₂ of a kWh" in page


def test_idle_waste_that_nobody_can_know_is_not_zero(viewer, two):
    page = text(viewer.get("/power/idle/?range=1h"))

    assert "Not known" in page
    assert re.search(r"Idle waste, 1 h —", page)


def test_an_empty_fleet_has_a_page(viewer):
    assert "Power now —" in text(viewer.get("/power/"))
    assert "No energy was measured" in text(viewer.get("/power/groups/"))


@pytest.mark.parametrize("path", ["/power/?by=colour", "/power/groups/?sort=colour", "/power/?range=2h"])
def test_what_cannot_be_is_refused_in_words(viewer, path):
    answer = viewer.get(path)

    assert (answer.status_code, "expected" in answer.content.decode()) == (400, True)


@pytest.mark.parametrize("path", ["/power/", "/power/arrays/?range=1h", *PANELS])
def test_its_queries_do_not_grow_with_the_fleet(viewer, two, path, django_assert_max_num_queries):
    viewer.get(path)
    for number in range(6):
        drawing_host(f"c{number}", "atlas")
    with django_assert_max_num_queries(40):
        viewer.get(path)


def test_a_stranger_sees_nothing(client, two):
    for path in ("/power/", "/power/arrays/", *PANELS):
        assert client.get(path).status_code == 302


@pytest.mark.parametrize(("minutes", "words"), [(60, "±0.0 % on the time before"), (30, "known for 50 % of the time")])
def test_a_time_of_which_half_is_unknown_is_not_compared_with_a_whole_one(viewer, minutes, words):
    host = make_host("a")
    device = make_device(host)
    start_ms = int(timezone.now().timestamp() * 1000) // 60_000 * 60_000 - 7_200_000
    for minute in range(-60, minutes):
        roll_up(host, {device: 6000.0}, start_ms=start_ms + 60_000 * minute, step_seconds=60)

    assert words in text(viewer.get(f"/power/?range=1h&from={start_ms}&to={start_ms + 3_600_000}"))


def test_the_cost_of_a_device_model_is_shown(viewer, two, settings):
    settings.STEPWATT_TARIFF = Tariff(0.2)
    panel = text(viewer.get("/power/groups/?range=1h&by=model"))

    assert re.search(r"NVIDIA H100 80GB HBM3 0.100 kWh 0.0200 EUR", panel)


def test_what_cost_nothing_is_told_as_nothing_and_not_as_unknown(viewer, settings):
    settings.STEPWATT_TARIFF, settings.STEPWATT_CURRENCY = Tariff(0.2), "EUR"
    drawing_host("a", "atlas", 0.0)

    assert "atlas 0 kWh 0 EUR" in text(viewer.get("/power/groups/?range=1h&by=cluster"))


@pytest.mark.parametrize(
    ("kwh", "ticks"),
    [
        (0.0, ("1 kWh", "0.5", "0")),
        (1.2, ("2 kWh", "1", "0")),
        (1336.0, ("2,000 kWh", "1,000", "0")),
        (460.0, ("500 kWh", "250", "0")),
    ],
)
def test_the_axis_of_the_days_ends_on_a_round_number_above_them_all(kwh, ticks):
    axis = axis_of(kwh * 3.6e6)

    assert tuple(tick.replace("\u202f", " ") for tick in axis.ticks) == ticks
    assert axis.top >= kwh * 3.6e6


@pytest.fixture
def mixed(two):
    """A cluster of two models, of which one stands elsewhere too, and hosts without a cluster."""
    drawing_host("a2", "atlas", 300.0, model="NVIDIA L40S")
    drawing_host("c", "", 100.0)


@pytest.mark.parametrize(("cluster", "watts"), [("atlas", 700), ("borealis", 200), ("", 100)])
def test_a_chosen_cluster_narrows_every_part_of_the_page(viewer, mixed, cluster, watts):
    kwh = watts / 6000  # ten minutes of it
    query = f"range=1h&cluster={cluster}"
    now, energy, *_ = viewer.get(f"/power/?{query}").context["tiles"]

    assert (now.value, energy.value) == (watts, pytest.approx(watts * 600))
    for by in ("cluster", "model", "label:team", "host"):
        chart = viewer.get(f"/power/arrays/?{query}&by={by}").json()["charts"]["fig-power"]
        assert max(v for v in chart["traces"][-1]["y"] if v is not None) == pytest.approx(watts), by
        figure = viewer.get(f"/power/?{query}&by={by}").context["figure"]
        assert len(figure["data"]) == len(chart["traces"]), by
        groups = list(
            csv.DictReader(io.StringIO(viewer.get(f"/power/groups/?{query}&by={by}&format=csv").content.decode()))
        )
        assert sum(float(row["kwh"]) for row in groups) == pytest.approx(kwh), by


def test_the_days_of_a_cluster_are_those_of_its_hosts(viewer):
    start_ms = int(timezone.now().timestamp() * 1000) // 3_600_000 * 3_600_000 - 86_400_000
    for name, cluster, joules in (("a", "atlas", 3.6e6), ("b", "borealis", 7.2e6)):
        host = make_host(name, cluster=cluster)
        roll_up(host, {make_device(host): joules}, start_ms=start_ms, step_seconds=3600)

    for cluster, kwh in (("atlas", 1), ("borealis", 2)):
        file = viewer.get(f"/power/days/?cluster={cluster}&format=csv").content.decode()
        assert [float(row["kwh"]) for row in csv.DictReader(io.StringIO(file)) if row["kwh"]] == [kwh]


def test_the_parts_of_the_page_ask_for_the_chosen_cluster_too(viewer, two):
    page = viewer.get("/power/?cluster=atlas&by=model").content.decode()
    days = viewer.get("/power/days/?cluster=atlas").content.decode()

    for address in (
        'data-arrays="/power/arrays/?range=7d&amp;by=model&amp;cluster=atlas"', 'hx-get="/power/days/?cluster=atlas"',
        'hx-get="/power/idle/?cluster=atlas&amp;by=model"', 'hx-get="/power/groups/?cluster=atlas&amp;by=model"',
        'href="/hosts/?sort=-power&amp;cluster=atlas"',
    ):  # fmt: skip
        assert address in page
    assert 'href="/power/days/?format=csv&amp;cluster=atlas"' in days


def test_a_cluster_has_its_own_budget_and_not_the_fleets(viewer, two):
    thresholds.set_value("power_budget", "watts", 1200)
    assert "budget" not in text(viewer.get("/power/?range=1h&cluster=atlas"))

    thresholds.set_value("power_budget", "watts:atlas", 800)

    assert "50 % of the budget of 800 W" in text(viewer.get("/power/?range=1h&cluster=atlas"))


def test_a_group_leads_to_its_hosts(viewer, two):
    assert 'href="/hosts/?cluster=atlas"' in viewer.get("/power/groups/?range=1h").content.decode()
    page = viewer.get("/power/groups/?range=1h&by=label:team&cluster=borealis").content.decode()
    assert 'href="/hosts/?q=vision&amp;cluster=borealis"' in page
