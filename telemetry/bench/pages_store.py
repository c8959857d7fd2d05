"""A database as the pages' bench shows it. Its functions run in processes whose data directory is temporary (pages_calls.py).

Never call it where somebody's data is. Readings are those of telemetry/bench/signals.py; hosts stand in three clusters, some of
them ill or silent. Arguments and answers are plain JSON.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction

from fleet.models import Device, DeviceKind, Event, EventKind, Host, Origin, Severity
from telemetry import rollups
from telemetry.bench import signals
from telemetry.bench.own_store import create, enrol
from telemetry.bench.signals import GPUS_PER_HOST, METRICS, Signals
from telemetry.catalog import BY_NAME
from telemetry.message import wire
from telemetry.models import GroupRollup, LatestState, Rollup, RollupGroup
from telemetry.receiving import ingest
from telemetry.store import compact, group_statistics, groups, statistics
from telemetry.store.rolled import GROUP_PERIODS
from telemetry.store.statistics import ENERGY, Field

CLUSTERS = (("atlas", "NVIDIA H100 80GB HBM3"), ("borealis", "NVIDIA A100-SXM4-80GB"), ("cirrus", "NVIDIA L40S"))
ANY_MODEL = "NVIDIA"  # a part of all these models
DAYS = 30
_BUDGET_SECONDS = 3600.0
_ROLLED = {"gpu_utilization_ratio": 0.8, "power_draw_watts": 520.0, "temperature_celsius": 62.0}  # about these means
_KEPT_SECONDS = {60: 86_400, 900: DAYS * 86_400, 3600: DAYS * 86_400}  # what a chart of some range reads of groups
_SLICE = 48  # buckets of 10,000 devices at once
_ALERTS = 100
_ILL, _SILENT = 97, 199  # each so-manieth host
_THERMAL = 0x20


def name(n: int) -> str:
    return f"gpu-{CLUSTERS[n % 3][0][0]}{n:04}"


def seed(n_hosts: int, without: Sequence[str] = ()) -> None:
    """Make hosts and devices with their newest readings, `without` these metrics."""
    create()
    names = [name(n) for n in range(n_hosts)]
    enrol(names)
    hosts = dict(Host.objects.values_list("name", "pk"))
    now = datetime.now(UTC)
    for number, (cluster, model) in enumerate(CLUSTERS):
        own = names[number::3]
        Host.objects.filter(name__in=own).update(cluster=cluster, origin=Origin.REAL, heard_at=now, last_seen_at=now)
        Device.objects.bulk_create(
            Device(host_id=hosts[host], uuid=info.uuid, kind=DeviceKind.NVIDIA, index=info.index, model=model)
            for host in own
            for info in signals.devices(host)
        )
    LatestState.objects.bulk_create(LatestState(host_id=pk, at_ms=0, devices={}) for pk in hosts.values())
    live(n_hosts, 0, 1, without)
    _alerts(names[:: n_hosts // min(n_hosts, _ALERTS)])
    silent = [name(n) for n in range(n_hosts) if n % _SILENT == 7]
    Host.objects.filter(name__in=silent).update(
        heard_at=now - timedelta(hours=1), last_seen_at=now - timedelta(hours=1)
    )


def _alerts(names: list[str]) -> None:
    """Leave an open alert at the first device of each of these hosts."""
    now = datetime.now(UTC)
    firsts = Device.objects.filter(host__name__in=names, index=0)
    Event.objects.bulk_create(
        Event(
            kind=EventKind.HEALTH, severity=Severity.WARNING, host_id=device.host_id, device=device, rule="bench",
            subject=f"device:{device.uuid}", text="slower than its peers", first_at=now, last_at=now,
        )
        for device in firsts
    )  # fmt: skip


@transaction.atomic
def live(n_hosts: int, turn: int, turns: int, without: Sequence[str] = ()) -> None:
    """Give each `turns`-th host new readings, as the batches of a second do where one comes each `turns` seconds."""
    values = signals.in_units(_going_on(n_hosts).advance(1, 5.0))[:, :, 0]
    now = datetime.now(UTC)
    at_ms = int(now.timestamp() * 1000)
    hosts = Host.objects.in_bulk(
        [name(n) for n in range(turn, n_hosts, turns) if n % _SILENT != 7 or turns == 1], field_name="name"
    )
    for n in range(turn, n_hosts, turns):
        if (host := hosts.get(name(n))) is None:
            continue
        devices = {
            info.uuid: {
                "at_ms": at_ms,
                "read_ms": at_ms,
                "values": {
                    metric: value
                    for metric, value in _values(values[:, n * GPUS_PER_HOST + at], n, at).items()
                    if metric not in without
                },
                "absent": {},
            }
            for at, info in enumerate(signals.devices(host.name))
        }
        LatestState.objects.filter(host=host).update(at_ms=at_ms, devices=devices)
    Host.objects.filter(pk__in=[host.pk for host in hosts.values()]).update(heard_at=now, last_seen_at=now)


@cache
def _going_on(n_hosts: int) -> Signals:
    """Return the devices' signals, which go on from call to call."""
    return Signals(n_hosts * GPUS_PER_HOST, seed=21)


def _values(column: np.ndarray, n: int, at: int) -> dict[str, float]:
    values = dict(zip(METRICS, column.tolist(), strict=True))
    values["memory_total_bytes"] = 80 * 2.0**30
    values["sm_clock_max_hertz"] = 1.98e9
    values["clock_event_reasons"] = float(_THERMAL) if n % _ILL == 5 and at == 3 else 0.0
    if n % _ILL == 60 and at == 1:
        values["ecc_uncorrected_total"] = 2.0
    return values


def samples(n_hosts: int, hours: int, every_seconds: int) -> None:
    """Take samples of every host over the last hours into the store, through the acceptance; then do what beat does in time."""
    found = Signals(n_hosts * GPUS_PER_HOST, seed=22)
    for times_ms in _spans(hours * 3600, every_seconds, 60):
        values = signals.in_units(found.advance(len(times_ms), every_seconds))
        for n in range(n_hosts):
            _take(n, f"{n:032x}", times_ms, values[:, n * GPUS_PER_HOST : (n + 1) * GPUS_PER_HOST])
    maintain()


def fine(n: int, seconds: int) -> None:
    """Take one host's samples at 1 Hz over the last seconds: what its charts show sample by sample."""
    found = Signals(GPUS_PER_HOST, seed=23)
    for times_ms in _spans(seconds, 1, 60):
        _take(n, f"{n:032x}", times_ms, signals.in_units(found.advance(len(times_ms), 1)))


def _spans(seconds: int, every_seconds: int, ticks: int) -> Iterator[list[int]]:
    end_ms = int(time.time()) * 1000
    step_ms = every_seconds * 1000
    for first_ms in range(end_ms - seconds * 1000, end_ms, ticks * step_ms):
        yield list(range(first_ms, min(end_ms, first_ms + ticks * step_ms), step_ms))


def _take(n: int, epoch: str, times_ms: list[int], values: np.ndarray) -> None:
    host = Host.objects.get(name=name(n))
    sequence = times_ms[0] // 1000
    ingest.ingest(host, wire.pack(signals.batch(host.name, epoch, sequence, times_ms, values)), datetime.now(UTC))


def maintain() -> None:
    rollups.roll_up(_BUDGET_SECONDS)
    rollups.join(_BUDGET_SECONDS)
    compact.compact(datetime.now(UTC), _BUDGET_SECONDS)


def rolled_up() -> None:
    """Write 30 days of rollups: every device's by the hour, and those of the groups as the fleet's charts read them."""
    groups.follow_members()
    _roll_devices()
    _roll_groups()


def _roll_devices() -> None:
    end_ms = int(time.time()) // 3600 * 3_600_000
    n = DAYS * 24
    draw = np.random.default_rng(24)
    for host, ids in _devices_by_host().items():
        keys, values = _table(ids, n, 3600, draw)
        body = statistics.encode_joined(statistics.ordered(keys, values, end_ms - n * 3_600_000, 3_600_000))
        row = {"host_id": host, "step_seconds": 3600, "start_ms": end_ms - n * 3_600_000, "n_buckets": n, "body": body}
        Rollup.objects.create(**row)


def _roll_groups() -> None:
    members = group_statistics.of_members(list(RollupGroup.objects.values_list("pk", flat=True)))
    by_host, draw = _devices_by_host(), np.random.default_rng(25)
    ids = [pk for of_host in by_host.values() for pk in of_host]
    hosts = np.repeat(np.array(list(by_host), np.int64), [len(of_host) for of_host in by_host.values()])
    for step_seconds, kept in _KEPT_SECONDS.items():
        step_ms = 1000 * step_seconds
        end_ms = int(time.time() * 1000) // step_ms * step_ms
        first_ms = end_ms - kept * 1000
        rows: dict[tuple[int, int], list[statistics.Statistics]] = {}
        for start_ms in range(first_ms, end_ms, _SLICE * step_ms):
            n = min(_SLICE, (end_ms - start_ms) // step_ms)
            starts = start_ms + step_ms * np.arange(n, dtype=np.int64)
            keys, values = _table(ids, n, step_seconds, draw)
            rows_ = group_statistics.Rows(keys, values, np.tile(hosts, len(keys) // len(ids)))
            made = group_statistics.of_groups(rows_, starts, step_ms, members)
            for group, found in made.items():
                rows.setdefault((group, start_ms // (1000 * GROUP_PERIODS[step_seconds])), []).append(found)
        GroupRollup.objects.bulk_create(_joined(group, found, step_seconds) for (group, _), found in rows.items())


def _joined(group: int, found: list[statistics.Statistics], step_seconds: int) -> GroupRollup:
    whole = found[0]._replace(values=np.concatenate([each.values for each in found], axis=1))
    body = statistics.encode_joined(whole)
    return GroupRollup(
        group_id=group, step_seconds=step_seconds, start_ms=whole.start_ms, n_buckets=whole.values.shape[1], body=body
    )


def _table(ids: Sequence[int], n: int, step_seconds: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a rollup's keys `(k, 4)` and values `(k, n)` of these devices: three metrics about a mean, and energy."""
    keys, values = [], []
    for metric, mean in _ROLLED.items():
        row = BY_NAME[metric]
        level = mean * (1 + 0.1 * draw.standard_normal((len(ids), 1)) + 0.03 * draw.standard_normal((len(ids), n)))
        steps = np.rint(np.clip(level, 0, 1 if row.unit == "ratio" else None) / row.resolution).astype(np.int64)
        counts = np.full((len(ids), n), step_seconds)
        for field, column in (
            (Field.COUNT, counts), (Field.SUM, steps * step_seconds), (Field.MINIMUM, steps * 9 // 10), (Field.MAXIMUM, steps),
        ):  # fmt: skip
            keys += [(row.number, field, 0, pk) for pk in ids]
            values.append(column)
    for field, each in (
        (Field.MEASURED_MILLIJOULES, 520_000),
        (Field.ESTIMATED_MILLIJOULES, 0),
        (Field.COVERED_MILLISECONDS, 1000),
    ):
        keys += [(ENERGY, field, 0, pk) for pk in ids]
        values.append(np.full((len(ids), n), each * step_seconds))
    return np.array(keys, np.int64), np.concatenate(values).astype(np.int64)


def _devices_by_host() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for pk, host in Device.objects.order_by("host_id", "pk").values_list("pk", "host_id"):
        found.setdefault(host, []).append(pk)
    return found


def session() -> str:
    """Make an operator who has signed in; returns the session's key."""
    user = get_user_model().objects.create_superuser("bench")
    store = SessionStore()
    store[SESSION_KEY], store[HASH_SESSION_KEY] = str(user.pk), user.get_session_auth_hash()
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store.create()
    return str(store.session_key)
