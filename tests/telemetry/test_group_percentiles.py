"""What a group's rollups say of its devices at each resolution, beside numpy over these devices."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from telemetry import catalog, rollups
from telemetry.message.wire import DeviceInfo, DeviceKind
from telemetry.models import GroupRollup
from telemetry.store import statistics
from telemetry.store.statistics import Field
from tests.telemetry.batches import enrolled, payload, take

T0 = 1_700_000_000_000 // 86_400_000 * 86_400_000
NOW = datetime.fromtimestamp(T0 / 1000, UTC) + timedelta(hours=30)
N_DEVICES, N_TICKS = 7, 60
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
