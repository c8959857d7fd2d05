"""Stragglers and slow steps of a stored run, laid beside what telemetry stored of its devices in that time."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from django.test import override_settings

from fleet.environment.tariff import Tariff
from fleet.models import DeviceKind
from telemetry import rollups
from telemetry.message import wire
from telemetry.message.wire import DeviceEvent, DeviceInfo, DeviceProcess
from telemetry.models import StoredBatch
from tests.factories import make_device, make_host
from tests.telemetry.batches import batch, take
from tests.training.stored_steps import columns, enter
from training.runs.causes import HARDWARE_HEAT
from training.runs.members import members
from training.runs.why_slow import run_slow_steps, run_stragglers
from training.steps.store import read

START_MS = 1_700_000_040_000
N_STEPS, SLOW_FROM, N_RANKS = 600, 480, 4
NOW = datetime.fromtimestamp(START_MS / 1000 + 660, UTC)
SLOW_MS = START_MS + SLOW_FROM * 1000

pytestmark = pytest.mark.django_db


@pytest.fixture
def host():
    return make_host("gpu-a01")


@pytest.fixture
def devices(host):
    return [make_device(host, index) for index in range(N_RANKS)]


def telling(host, devices, *, seconds=None, compute=None, phases=None):
    """A run of ranks in lockstep: steps of a second, of which 0.9 are compute; `compute (n, ranks)` says otherwise."""
    compute = np.full((N_STEPS, N_RANKS), 0.9) if compute is None else compute
    lengths = compute.max(axis=1) + 0.1 if seconds is None else seconds
    random = np.random.default_rng(1)
    for rank, device in enumerate(devices):
        own = compute[:, rank] * random.normal(1, 0.004, len(compute))
        steps = columns(*lengths, first_ms=START_MS, compute_seconds=own, rank=[rank] * len(own), phases=phases)
        run = enter(
            host,
            steps,
            run="llm",
            rank=rank,
            process=f"p{rank}",
            devices=(device.uuid,),
            pid=100 + rank,
            world_size=N_RANKS,
        )
    run.refresh_from_db()
    return run


def slow_rank(rank=2, slower=0.2):
    compute = np.full((N_STEPS, N_RANKS), 0.9)
    compute[SLOW_FROM:, rank] *= 1 + slower
    return compute


def telemetry(host, devices, until_ms, *, of=None, events=(), processes=None, **usual):
    """Samples each second of all devices, `usual` values; `of` {device: {metric: (value, slow value)}} from SLOW_MS on."""
    usual = {
        "sm_clock_hertz": 1.98e9,
        "temperature_celsius": 60.0,
        "clock_event_reasons": 0.0,
        "power_draw_watts": 500.0,
        **usual,
    }
    infos = [DeviceInfo(each.uuid, wire.DeviceKind(each.kind), each.index, each.model) for each in devices]
    for first_ms in range(START_MS, until_ms, 300_000):
        times = list(range(first_ms, min(first_ms + 300_000, until_ms), 1000))
        is_last = times[-1] + 1000 >= until_ms
        made = batch(
            times, {name: [value] * len(times) for name, value in usual.items()}, host=host.name, sequence=first_ms - START_MS,
            device=infos[0], others=infos[1:], events=events if is_last else (), processes=(processes or {}) if is_last else {},
        )  # fmt: skip
        series = {name: [list(column) for column in each] for name, each in made.columns.items()}
        for device, told in (of or {}).items():
            for name, (before, after) in told.items():
                series[name][devices.index(device)] = [after if at >= SLOW_MS else before for at in times]
        take(wire.pack(replace(made, columns=series)), datetime.fromtimestamp(times[-1] / 1000, UTC))


def stragglers_of(run, **more):
    return run_stragglers(run, members(run), read.steps(run), NOW, **more)


def test_the_verdict_names_rank_host_and_gpu_how_many_wait_and_what_it_costs(host, devices):
    run = telling(host, devices, compute=slow_rank())
    telemetry(host, devices, START_MS + 660_000)
    with override_settings(STEPWATT_TARIFF=Tariff(0.30), STEPWATT_PUE=None):
        (found,) = stragglers_of(run).found
    assert (found.straggler.rank, found.device, found.n_gpus) == (2, devices[2], 3)
    assert found.gpu_seconds == pytest.approx(3 * 120 * 0.18, rel=0.05)
    assert found.joules.value == pytest.approx(500 * found.gpu_seconds, rel=0.05)
    assert found.joules.remark.startswith("estimated")
    assert found.cost.value == pytest.approx(found.joules.value / 3.6e6 * 0.30)
    assert found.words.startswith("rank 2 (gpu-a01 GPU 2) computes 20")
    assert "3 GPUs waited" in found.words


def test_heat_on_the_slow_ranks_gpu_is_named_as_the_cause(host, devices):
    run = telling(host, devices, compute=slow_rank())
    hot = {
        "clock_event_reasons": (0.0, float(HARDWARE_HEAT)),
        "temperature_celsius": (60.0, 91.0),
        "sm_clock_hertz": (1.98e9, 1.4e9),
    }
    telemetry(host, devices, START_MS + 660_000, of={devices[2]: hot})
    (found,) = stragglers_of(run).found
    cause = found.causes.likeliest
    assert cause.words == "slowed: hardware thermal slowdown"
    assert "GPU 9" in cause.evidence
    assert cause.device == "gpu-a01 GPU 2"


def test_the_cause_is_seen_from_rollups_when_the_samples_are_gone(host, devices):
    run = telling(host, devices, compute=slow_rank())
    hot = {"clock_event_reasons": (0.0, float(HARDWARE_HEAT)), "sm_clock_hertz": (1.98e9, 1.4e9)}
    telemetry(host, devices, START_MS + 660_000, of={devices[2]: hot})
    rollups.roll_up(60, NOW + timedelta(hours=2))
    StoredBatch.objects.all().delete()
    (found,) = stragglers_of(run).found
    assert found.causes.likeliest.words == "slowed: hardware thermal slowdown"


def test_a_rank_slow_from_the_first_is_laid_beside_the_others(host, devices):
    compute = np.full((N_STEPS, N_RANKS), 0.9)
    compute[:, 1] *= 1.2
    run = telling(host, devices, compute=compute)
    telemetry(host, devices, START_MS + 660_000, of={devices[1]: {"sm_clock_hertz": (1.6e9, 1.6e9)}})
    (found,) = stragglers_of(run).found
    assert found.straggler.is_from_the_first
    assert found.causes.likeliest.words == "its clock fell"
    assert "the others 1,980" in found.causes.likeliest.evidence
    assert "uneven work by design looks the same" in found.words


def test_nothing_seen_is_no_cause(host, devices):
    run = telling(host, devices, compute=slow_rank())
    telemetry(host, devices, START_MS + 660_000)
    (found,) = stragglers_of(run).found
    assert found.causes.likeliest is None
    assert found.causes.words.startswith("no cause seen")
    assert "clock event reasons" not in found.causes.unseen


def test_without_telemetry_costs_and_causes_are_unknown_with_their_reasons(host, devices):
    run = telling(host, devices, compute=slow_rank())
    (found,) = stragglers_of(run).found
    assert (found.joules.value, found.joules.why) == (None, "their energy in this time is not known")
    assert "clock event reasons" in found.causes.unseen


def test_a_program_of_another_is_named_while_it_is_known_who_uses_the_device(host, devices):
    run = telling(host, devices, compute=slow_rank())
    processes = {
        device.uuid: [DeviceProcess(100 + rank, "python", "ada")]
        + ([DeviceProcess(999, "blender", "eve")] if rank == 2 else [])
        for rank, device in enumerate(devices)
    }
    telemetry(host, devices, START_MS + 660_000, processes=processes)
    host.refresh_from_db()
    (found,) = stragglers_of(run).found
    assert found.causes.likeliest.words == "another program on the device"
    assert found.causes.likeliest.evidence == "blender (eve)"
    (later,) = run_stragglers(run, members(run), read.steps(run), NOW + timedelta(hours=1)).found
    assert "other programs on the device" in later.causes.unseen


def test_ranks_that_tell_no_communication_time_leave_nothing_to_tell(host, devices):
    for rank, device in enumerate(devices):
        run = enter(
            host,
            columns(*[1.0] * 50, rank=[rank] * 50),
            run="llm",
            rank=rank,
            process=f"p{rank}",
            devices=(device.uuid,),
        )
    found = stragglers_of(run)
    assert found.found == ()
    assert "do not tell their communication time" in found.judgement.reason


def test_an_xid_in_a_slow_step_is_its_cause(host, devices):
    compute = np.full((N_STEPS, N_RANKS), 0.9)
    compute[SLOW_FROM, 3] = 8.0
    run = telling(host, devices, compute=compute)
    at = START_MS + SLOW_FROM * 1000 + 4000
    xid = DeviceEvent(devices[3].uuid, wire.EventKind.XID, 48, at)
    telemetry(host, devices, START_MS + 660_000, events=[xid])
    (found,) = run_slow_steps(run, members(run), read.steps(run), NOW)
    assert (found.step.rank, found.device, found.host) == (3, devices[3], "gpu-a01")
    assert found.causes.likeliest.name == "xid"
    assert "XID 48" in found.causes.words


def test_a_slow_step_that_waited_for_data_says_so_even_without_telemetry(host, devices):
    seconds, waited = np.full(N_STEPS, 1.0), np.full(N_STEPS, 0.05)
    seconds[300], waited[300] = 6.0, 5.0
    run = telling(host, devices, seconds=seconds, compute=np.full((N_STEPS, N_RANKS), np.nan), phases={"data": waited})
    (found,) = run_slow_steps(run, members(run), read.steps(run), NOW)
    assert found.step.rank is None
    assert found.causes.likeliest.words == "waited for data"


def test_memory_pressure_of_the_host_is_seen_beside_each_of_its_devices(host, devices):
    compute = np.full((N_STEPS, N_RANKS), 0.9)
    compute[SLOW_FROM] = 30.0
    run = telling(host, devices, compute=compute)
    node = make_device(host, kind=DeviceKind.NODE, uuid="NODE-1", model="")
    series = {"host_memory_pressure_ratio": (0.0, 0.6), "host_cpu_pressure_ratio": (0.0, 0.0)}
    telemetry(
        host,
        [*devices, node],
        START_MS + 510_000,
        of={node: series},
        host_memory_pressure_ratio=0.0,
        host_cpu_pressure_ratio=0.0,
    )
    (found,) = run_slow_steps(run, members(run), read.steps(run), NOW)
    assert found.causes.likeliest.words == "the host short of memory"
