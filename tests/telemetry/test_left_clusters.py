"""A cluster whose last GPU has left it: it is drawn and offered for the time in which it had some, and for no other."""

from datetime import timedelta

import pytest

from telemetry import rollups
from telemetry.accounts import power_groups
from telemetry.series import counted, trends
from tests.people import signed_in
from tests.telemetry.batches import enrolled
from tests.telemetry.test_moves import MINUTE, NODE, T0, at, tell

HOUR = 60 * MINUTE
SHORT, LONG = (40 * MINUTE, 240), (4 * HOUR, 240)
METRIC = "power_draw_watts"
AFTER_MS = T0 + 25 * MINUTE

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[False, True], ids=["empty", "with its machine"])
def _gone(request, settings):
    """A GPU that drew 100 W in the cluster east, and from the twentieth minute on 300 in the west; perhaps its machine stayed."""
    settings.STEPWATT_RETENTION_RAW = 4000 * 86_400
    for name, cluster in (("a", "east"), ("b", "west")):
        enrolled(name, cluster=cluster, labels={"rack": f"of-{name}"})
    for minute in range(3):
        tell("a", minute, minute)
    if request.param:
        tell("a", 3, 3, device=NODE["a"], watts=900.0)
    for minute in range(20, 23):
        tell("b", minute, minute, watts=300.0)
    rollups.roll_up(60, at(T0 + 2 * HOUR) + timedelta(days=1))


def known(values):
    return {value for value in values.tolist() if value == value}  # noqa: PLR0124  NaN is not itself


@pytest.mark.usefixtures("_gone")
@pytest.mark.parametrize(("span_ms", "points"), [SHORT, LONG])
@pytest.mark.parametrize(
    ("group_by", "key"), [("", ""), ("cluster", "east"), ("model", "H100"), ("host", "a"), ("label:rack", "of-a")]
)
def test_its_past_is_drawn(span_ms, points, group_by, key):
    found = trends.trend(METRIC, T0, T0 + span_ms, points, cluster="east", group_by=group_by)

    assert {name: known(values) for name, values in found.total.items()} == {key: {100.0}}


@pytest.mark.usefixtures("_gone")
def test_the_time_after_it_left_has_no_part_of_it():
    assert counted.class_of("east", T0) == "accelerator"
    assert counted.class_of("east", AFTER_MS) == "node"
    assert (trends.clusters(T0), trends.clusters(AFTER_MS)) == (["east", "west"], ["west"])
    after = trends.trend(METRIC, AFTER_MS, AFTER_MS + 20 * MINUTE, 120, cluster="east")
    assert not any(known(values) for values in after.total.values())


@pytest.mark.usefixtures("_gone")
@pytest.mark.parametrize(
    ("by", "groups"), [("cluster", ["west", "east"]), ("model", ["H100"]), ("label:rack", ["of-b", "of-a"])]
)
def test_it_is_offered_after_the_groups_that_have_devices(by, groups):
    assert power_groups.members(by, None, T0) == groups
    assert power_groups.members(by, None, AFTER_MS) == groups[:1]


@pytest.mark.usefixtures("_gone")
@pytest.mark.parametrize("cluster", [None, "east"])
@pytest.mark.parametrize(
    ("page", "arrays", "figure"), [("/", "/fleet/arrays/", "power"), ("/power/", "/power/arrays/", "figure")]
)
def test_a_page_draws_it_beside_the_others(cluster, page, arrays, figure):
    viewer = signed_in()
    asked = {"from": T0, "to": T0 + 4 * HOUR} | ({} if cluster is None else {"cluster": cluster})

    drawn = viewer.get(page, asked).context[figure]
    traces = viewer.get(arrays, asked).json()["charts"]["fig-power"]["traces"]

    by_group = {key["label"]: traces[key["traces"][0]]["customdata"] for key in drawn["layout"]["meta"]["legend"]}
    values = {name: {value for value in column if value is not None} for name, column in by_group.items()}
    assert values == ({"east": {100.0}} if cluster else {"east": {100.0}, "west": {300.0}})
    assert len(drawn["data"]) == len(traces)
