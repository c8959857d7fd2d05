"""A month of energy of 10,000 GPUs with their hosts' meters, put straight into the hours' rollups. Run by energy_calls.

Never call it where somebody's data is: `seed_energy` wants an empty database. What a host's rollup holds besides (six metrics) is
there too, as it is read along; of a hundred hosts each has the same numbers, under its own devices.
"""

from datetime import UTC, datetime

import numpy as np

from fleet.models import Device, DeviceKind, Host, Origin
from telemetry import vendor_sql
from telemetry.bench.query_data import DAY_MS, HOUR_MS, PAGE_METRICS
from telemetry.bench.signals import GPUS_PER_HOST
from telemetry.catalog import BY_NAME
from telemetry.store import statistics
from telemetry.store.statistics import ENERGY, Field, Whole
from telemetry.vendor_sql import RollupRow

DAYS = 31  # one more than is asked for, so that each request asks for another window
_N_KINDS = 100
_MOST_MILLIJOULES, _METER_TIMES = 700 * 3600 * 1000, 12
_OF_METRIC = (Field.COUNT, Field.SUM, Field.MINIMUM, Field.MAXIMUM, Field.LAST)
_IDLE = (Field.IDLE_MILLIJOULES, Field.IDLE_MILLISECONDS)


def seed_energy(n_hosts: int, end_ms: int) -> None:
    """Make the hosts with their devices, and their hours up to `end_ms`."""
    now = datetime.now(UTC)
    Host.objects.bulk_create(
        Host(name=f"energy-{n:04}", cluster="bench", origin=Origin.SIMULATED, joined_at=now) for n in range(n_hosts)
    )
    hosts = list(Host.objects.order_by("pk"))
    Device.objects.bulk_create(
        Device(host=host, uuid=f"GPU-{host.name}-{index}", kind=DeviceKind.NVIDIA, index=index, model="bench")
        for host in hosts for index in range(GPUS_PER_HOST)
    )  # fmt: skip
    Device.objects.bulk_create(
        Device(host=host, uuid=f"NODE-{host.name}", kind=DeviceKind.NODE, index=0) for host in hosts
    )
    of_host: dict[int, list[int]] = {}
    for pk, host_id in Device.objects.order_by("pk").values_list("pk", "host_id"):
        of_host.setdefault(host_id, []).append(pk)
    start_ms = end_ms - DAYS * DAY_MS
    for number, host in enumerate(hosts):
        vendor_sql.insert_rollups([_month(host.pk, of_host[host.pk], start_ms, number % _N_KINDS)])


def _month(host: int, devices: list[int], start_ms: int, kind: int) -> RollupRow:
    """Return a host's hours; the last of its devices is the host as a whole."""
    n, random = DAYS * DAY_MS // HOUR_MS, np.random.default_rng(kind)
    keys: list[tuple[int, int, int, int]] = []
    values: list[Whole] = []
    for place, pk in enumerate(devices):
        most = _MOST_MILLIJOULES * (1 if place < GPUS_PER_HOST else _METER_TIMES)
        keys += [(ENERGY, field, 0, pk) for field in (Field.MEASURED_MILLIJOULES, Field.COVERED_MILLISECONDS)]
        values += [random.integers(most // 2, most, n), np.full(n, HOUR_MS)]
    for pk in devices[:GPUS_PER_HOST]:
        keys += [(ENERGY, field, 1, pk) for field in _IDLE]
        values += [random.integers(0, _MOST_MILLIJOULES // 20, n) for _ in _IDLE]
        keys += [(BY_NAME[metric].number, field, 0, pk) for metric in PAGE_METRICS for field in _OF_METRIC]
        values += [random.integers(1, 1000, n) for _ in PAGE_METRICS for _ in _OF_METRIC]
    made = statistics.ordered(np.array(keys, np.int64), np.array(values, np.int64), start_ms, HOUR_MS)
    return RollupRow(host, HOUR_MS // 1000, start_ms, n, statistics.encode_joined(made))
