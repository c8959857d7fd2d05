"""What a group's rollups say of its devices at each resolution, and what is shown of it, beside numpy over these devices."""

import csv
import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from telemetry import catalog, rollups
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.models import GroupRollup
from telemetry.store import statistics
from telemetry.store.statistics import Field
from tests.people import script, signed_in
from tests.telemetry.batches import enrolled, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=30)
N_DEVICES, N_TICKS = 7, 60
FOUR_HOURS_MS = 4 * 3_600_000
SHARES = {Field.P10: 10, Field.P50: 50, Field.P90: 90}
READINGS = {"gpu_utilization_ratio": (0.0, 1.0), "power_draw_watts": (70.0, 700.0)}

pytestmark = pytest.mark.django_db


@pytest.fixture
def means(settings) -> dict[str, np.ndarray]:
    """A minute of seven GPUs on hosts of their own, rolled up; returns each metric's means, `(7,)`."""
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400
    random, found = np.random.default_rng(5), {metric: [] for metric in READINGS}
    for place in range(N_DEVICES):
        columns = {metric: random.uniform(*span, N_TICKS).round(2) for metric, span in READINGS.items()}
        device = DeviceInfo(f"GPU-{place}", DeviceKind.NVIDIA, 0, "H100")
        enrolled(f"h{place}", cluster="east", labels={"rack": "r1"})
        told = {metric: values.tolist() for metric, values in columns.items()}
        take(payload([T0 + 1000 * n for n in range(N_TICKS)], told, host=f"h{place}", device=device), NOW)
        for metric, values in columns.items():
            found[metric].append(values.mean())
    rollups.roll_up(60, NOW)
    return {metric: np.array(values) for metric, values in found.items()}


def of_group(kind: str, step: int, metric: str, field: Field) -> float:
    """Return what the group's first bucket says, in base units."""
    rows = GroupRollup.objects.filter(group__kind=kind, group__devices="accelerator", step_seconds=step)
    row = rows.earliest("start_ms")
    table, number = statistics.decode(bytes(row.body), row.start_ms, 1000 * step), catalog.BY_NAME[metric].number
    (place,) = np.flatnonzero((table.keys.numbers == number) & (table.keys.fields == field))
    return float(table.values[place, 0]) * catalog.BY_NAME[metric].resolution / statistics.parts_of_step(number)


@pytest.mark.parametrize("step", [60, 900, 3600])
@pytest.mark.parametrize("kind", ["fleet", "cluster", "model", "label"])
def test_its_percentiles_and_mean_are_those_of_its_devices(means, kind, step):
    for metric, values in means.items():
        for field, percent in SHARES.items():
            assert of_group(kind, step, metric, field) == pytest.approx(np.percentile(values, percent), rel=1e-5)
        assert of_group(kind, step, metric, Field.SUM) / N_DEVICES == pytest.approx(values.mean(), rel=1e-5)


def test_a_device_that_gave_nothing_in_a_minute_is_in_none_of_its_percentiles(settings):
    settings.STEPWATT_RETENTION_RAW = 400 * 86_400
    for place, (first_ms, watts) in enumerate([(T0, 100.0), (T0, 200.0), (T0, 400.0), (T0 + 60_000, 900.0)]):
        enrolled(f"h{place}")
        device, times = (
            DeviceInfo(f"GPU-{place}", DeviceKind.NVIDIA, 0, "H100"),
            [first_ms + 1000 * n for n in range(N_TICKS)],
        )
        take(payload(times, {"power_draw_watts": [watts] * N_TICKS}, host=f"h{place}", device=device), NOW)
    rollups.roll_up(60, NOW)

    found = {field: of_group("fleet", 60, "power_draw_watts", field) for field in SHARES}
    assert found == {Field.P10: pytest.approx(120), Field.P50: pytest.approx(200), Field.P90: pytest.approx(360)}


def across(values: np.ndarray) -> dict[str, object]:
    """Return what is told of devices with these means."""
    found = {"mean": values.mean()} | {f"p{percent}": np.percentile(values, percent) for percent in SHARES.values()}
    return {part: pytest.approx(value, rel=1e-5) for part, value in found.items()}


def test_the_api_tells_mean_and_percentiles_of_use_and_power(means):
    viewer = script()
    for metric, values in means.items():
        asked = {"metric": metric, "group_by": "cluster", "start": T0, "end": T0 + FOUR_HOURS_MS, "points": 240}
        (group,) = viewer.get("/api/v1/fleet/series", asked).json()["groups"]

        assert group["key"] == "east"
        assert {part: group[part][0] for part in across(values)} == across(values)
        assert [group[part][1] for part in across(values)] == [None] * 4


def test_the_chart_and_its_file_show_the_median_beside_the_mean(means):
    viewer, expected = signed_in(), across(means["gpu_utilization_ratio"])
    asked = {"from": T0, "to": T0 + FOUR_HOURS_MS}
    band, mean, median = viewer.get("/fleet/arrays/", asked).json()["charts"]["fig-utilisation"]["traces"]
    file = viewer.get("/fleet/arrays/", asked | {"format": "csv", "table": "utilisation"}).content.decode()
    row = next(csv.DictReader(io.StringIO(file)))

    assert (mean["y"][0], median["y"][0], band["y"]) == (
        expected["mean"],
        expected["p50"],
        [expected["p90"], expected["p10"]],
    )
    assert {part: float(row[f"gpu_utilization_ratio_{part}"]) for part in expected} == expected
