"""The figures of a run with its steps and its devices' samples as they are stored."""

from datetime import UTC, datetime

import pytest
from django.test import override_settings

from fleet import units
from fleet.environment.tariff import Tariff
from fleet.models import DeviceKind
from telemetry.message import wire
from telemetry.message.wire import DeviceInfo
from tests.factories import make_device, make_host
from tests.telemetry.batches import payload, take
from tests.training.stored_steps import columns, enter
from training.models import Run, RunRank
from training.runs.energy import by_run, energy
from training.runs.figures import figures
from training.runs.goodput import Spent
from training.runs.members import members
from training.views.run_tiles import tiles

START_MS = 1_700_000_040_000  # the beginning of a minute
MINUTES = 10
END_MS = START_MS + MINUTES * 60_000
NOW = datetime.fromtimestamp(END_MS / 1000 + 3600, UTC)
TOLD = {"flops_per_sample": 4.947e12, "dtype": "bf16"}

pytestmark = pytest.mark.django_db


def powered(host, devices, *, watts=600.0, minutes=MINUTES, counter=True, **more):
    """Samples each second: constant power, with its energy counter unless told otherwise, and what `more` says."""
    infos = [DeviceInfo(each.uuid, wire.DeviceKind(each.kind), each.index, each.model) for each in devices]
    for first in range(0, minutes * 60 + 1, 300):
        seconds = range(first, min(first + 300, minutes * 60 + 1))
        columns = {name: [value] * len(seconds) for name, value in {"power_draw_watts": watts, **more}.items()}
        if counter:
            columns["energy_joules_total"] = [watts * second for second in seconds]
        times = [START_MS + 1000 * second for second in seconds]
        body = payload(times, columns, host=host.name, sequence=first, device=infos[0], others=infos[1:])
        take(body, datetime.fromtimestamp(times[-1] / 1000, UTC))


def a_run(
    n_ranks=2, seconds=1.0, *, host=None, devices=None, first_ms=START_MS, n_steps=MINUTES * 60, run="llm", **told
):
    host = host or make_host("gpu-a01")
    devices = devices or [make_device(host, rank) for rank in range(n_ranks)]
    for rank in range(n_ranks):
        told_of = {"rank": [rank] * n_steps, "samples": [8.0] * n_steps, "tokens": [8192.0] * n_steps}
        steps = columns(*[seconds] * n_steps, first_ms=first_ms, **told_of)
        found = enter(
            host, steps, run=run, rank=rank, process=f"{run}-{rank}", world_size=n_ranks,
            devices=(devices[rank % len(devices)].uuid,), description=TOLD | told,
        )  # fmt: skip
    return host, devices, found


def of(run, start_ms=START_MS, end_ms=END_MS):
    run.refresh_from_db()
    return figures(run, start_ms, end_ms)


def test_rates_energy_and_mfu_are_of_one_window():
    host, devices, run = a_run()
    powered(host, devices)
    found = of(run)
    assert found.counted_ms == (START_MS, END_MS)
    assert found.step_times.median == pytest.approx(1.0)
    assert found.n_steps == pytest.approx(600)
    assert found.samples_per_second.value == pytest.approx(16.0)
    assert found.tokens_per_second.value == pytest.approx(16_384.0)
    assert found.joules.value == pytest.approx(2 * 600 * 600, rel=1e-3)
    assert found.joules_per_step.value == pytest.approx(1200, rel=1e-3)
    assert found.samples_per_joule.value == pytest.approx(16 / 1200, rel=1e-3)
    assert found.tokens_per_joule.value == pytest.approx(16_384 / 1200, rel=1e-3)
    assert found.mfu.value == pytest.approx(16 * 4.947e12 / (2 * 989.4e12))
    assert found.mfu.parts["peak FLOP/s"] == pytest.approx(2 * 989.4e12)
    assert found.goodput.share == pytest.approx(1.0)
    assert "measured by counters" in found.joules.remark


def test_a_part_of_the_window_outside_of_the_runs_life_counts_for_nothing():
    host, devices, run = a_run()
    powered(host, devices)
    found = of(run, START_MS - 3_600_000, END_MS + 3_600_000)
    assert found.counted_ms == (START_MS, END_MS)
    assert found.samples_per_second.value == pytest.approx(16.0)
    assert found.joules_per_step.value == pytest.approx(1200, rel=1e-3)
    assert found.goodput.seconds[Spent.OUTSIDE] == pytest.approx(7200)


def test_a_silence_of_a_run_that_goes_on_counts_for_nothing_until_its_next_step():
    host, devices, run = a_run()
    powered(host, devices)
    Run.objects.update(ends_at=NOW)
    silent = of(run, END_MS - 60_000, END_MS + 60_000)
    enter(
        host,
        columns(1.0, first_ms=END_MS + 60_000, number=[600]),
        process="llm-0",
        devices=(devices[0].uuid,),
        run="llm",
    )
    stalled = of(run, END_MS - 60_000, END_MS + 60_000)

    assert (silent.goodput.share, silent.samples_per_second.value) == (pytest.approx(1.0), pytest.approx(16.0))
    assert (stalled.goodput.share, stalled.samples_per_second.value) == (pytest.approx(0.5), pytest.approx(8.0))
    assert stalled.goodput.seconds[Spent.STALL] == pytest.approx(60)


def test_windows_that_cut_steps_give_the_same_rates():
    host, devices, run = a_run(seconds=7.0, n_steps=85)
    powered(host, devices)
    found = of(run, START_MS + 10_000, START_MS + 110_000)
    assert found.samples_per_second.value == pytest.approx(2 * 8 / 7, rel=1e-6)
    assert found.n_steps == pytest.approx(100 / 7)
    assert found.joules_per_step.value == pytest.approx(7 * 1200, rel=1e-2)


def test_cost_and_co2_stand_only_where_they_are_set():
    host, devices, run = a_run()
    powered(host, devices)
    without = of(run)
    assert (without.cost.value, without.cost.why) == (None, "no price per kWh is set")
    assert without.grams_co2.value is None
    with override_settings(STEPWATT_TARIFF=Tariff(0.30), STEPWATT_GRAMS_CO2_PER_KWH=400.0, STEPWATT_PUE=None):
        found = of(run)
    assert found.cost.value == pytest.approx(0.2 * 0.30, rel=1e-3)
    assert (found.cost.why, found.grams_co2.why) == ("", "")
    assert found.grams_co2.value == pytest.approx(0.2 * 400, rel=1e-3)


def test_energy_of_power_alone_is_told_as_estimated():
    host, devices, run = a_run()
    powered(host, devices, counter=False)
    found = of(run)
    assert found.joules.value == pytest.approx(720_000, rel=1e-2)
    assert "estimated from power" in found.joules.remark


def test_where_energy_is_known_for_a_part_of_the_time_there_is_no_work_per_joule():
    host, devices, run = a_run()
    powered(host, devices, minutes=5)
    found = of(run)
    assert found.joules.value == pytest.approx(360_000, rel=1e-2)
    assert found.samples_per_joule.value is None
    assert found.samples_per_joule.why == "its energy is known for 50% of the time only"


def test_without_telemetry_energy_and_ofu_say_why_they_are_missing():
    _, _, run = a_run()
    found = of(run)
    assert (found.joules.value, found.joules_per_step.value) == (None, None)
    assert "neither an energy counter nor power" in found.samples_per_joule.why
    assert (found.ofu.value, found.ofu.why) == (
        None,
        "no device of the run tells its tensor-pipe activity (GPM: Hopper and newer)",
    )


def test_ofu_stands_beside_mfu_as_an_estimate():
    host, devices, run = a_run()
    powered(host, devices, tensor_active_ratio=0.5, sm_clock_hertz=1.485e9, sm_clock_max_hertz=1.98e9)
    found = of(run)
    assert found.ofu.value == pytest.approx(0.375)
    assert "an estimate" in found.ofu.remark
    assert found.mfu.value != found.ofu.value


def test_mfu_by_formula_is_taken_from_tokens():
    shape = {"parameters": 1e9, "layers": 24, "width": 2048, "heads": 16, "sequence": 1024}
    _, _, run = a_run(flops_per_sample=None, model=shape, tokens_per_sample=1024)
    found = of(run)
    of_token = 6 * 1e9 + 12 * 24 * 2048 * 1024
    assert found.mfu.value == pytest.approx(16_384 * of_token / (2 * 989.4e12))
    assert "llm-foundry" in found.mfu_detail.method
    assert found.flops_per_sample == pytest.approx(1024 * of_token)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"flops_per_sample": None}, "neither flops_per_sample nor its model's shape"),
        ({"flops_per_sample": None, "model": {"parameters": 1e9}}, "does not tell its model's layers"),
        ({"dtype": "fp8"}, "quantised"),
        ({"dtype": None}, "does not tell the dtype"),
    ],
)
def test_a_run_without_mfu_says_why(told, why):
    _, _, run = a_run(**told)
    found = of(run)
    assert found.mfu.value is None
    assert why in found.mfu.why


def test_two_runs_on_one_device_share_its_energy_by_their_steps_and_say_so():
    host, devices, one = a_run(1, run="one")
    _, _, other = a_run(1, host=host, devices=devices, run="other", first_ms=START_MS + 300_000, n_steps=300)
    powered(host, devices)
    mine, theirs = of(one), of(other)
    assert mine.joules.value == pytest.approx(600 * 450, rel=1e-2)
    assert theirs.joules.value == pytest.approx(600 * 150, rel=1e-2)
    assert mine.energy.shared_with == ("other",)
    assert "shared out with other by the time of their steps" in mine.joules.remark


def test_sharing_costs_no_more_queries_for_more_devices(django_assert_max_num_queries):
    host, devices, one = a_run(8, run="one")
    a_run(8, host=host, devices=devices, run="other")
    powered(host, devices)
    one.refresh_from_db()
    who = members(one)
    with django_assert_max_num_queries(20):
        found = energy(one, who, START_MS, END_MS)
    assert found.account.joules == pytest.approx(8 * 600 * 300, rel=1e-2)


def test_a_run_that_went_on_elsewhere_drew_at_each_time_from_where_it_was():
    host, devices, run = a_run(1, n_steps=180)
    other = make_host("gpu-b01")
    device = make_device(other, 0)
    later = columns(*[1.0] * 300, first_ms=START_MS + 300_000, number=list(range(180, 480)))
    enter(other, later, run="llm", process="later", devices=(device.uuid,), description=TOLD)
    powered(host, devices, watts=100.0)
    powered(other, [device], watts=700.0)
    found = of(run)
    assert found.joules.value == pytest.approx(100 * 300 + 700 * 300, rel=1e-2)
    assert found.energy.account.covered_share == pytest.approx(1.0, abs=0.01)
    assert [each.uuid for each in found.energy.devices] == [devices[0].uuid, device.uuid]
    assert of(run, START_MS, START_MS + 120_000).joules.value == pytest.approx(100 * 120, rel=1e-2)


def test_each_device_of_one_process_is_shared_with_whoever_is_on_it():
    host = make_host("gpu-c01")
    devices = [make_device(host, 0), make_device(host, 1)]
    both, second = [each.uuid for each in devices], devices[1].uuid
    enter(host, columns(*[1.0] * 600, first_ms=START_MS), run="both", process="a", devices=both, description=TOLD)
    enter(
        host, columns(*[1.0] * 600, first_ms=START_MS), run="second", process="b", devices=(second,), description=TOLD
    )
    powered(host, devices)

    one, other = (of(Run.objects.get(name=name)) for name in ("both", "second"))
    assert one.joules.value == pytest.approx(600 * (600 + 300), rel=1e-2)
    assert other.joules.value == pytest.approx(600 * 300, rel=1e-2)


def test_the_mean_draw_of_a_run_that_went_on_elsewhere_is_that_of_the_devices_it_was_on():
    host, devices, run = a_run(2, n_steps=300)
    other = make_host("gpu-b01")
    moved_to = [make_device(other, rank) for rank in range(2)]
    for rank, device in enumerate(moved_to):
        later = columns(*[1.0] * 300, first_ms=START_MS + 300_000, rank=[rank] * 300, number=list(range(300, 600)))
        enter(other, later, run="llm", rank=rank, process=f"later-{rank}", devices=(device.uuid,), description=TOLD)
    powered(host, devices)
    powered(other, moved_to)

    found = of(run)
    assert found.mean_watts == pytest.approx(2 * 600, rel=1e-2)
    [note] = [tile.note for tile in tiles(found) if tile.key == "energy"]
    assert note == f"{units.quantity(found.mean_watts, 'watts')} mean draw"


def test_a_step_that_ends_beyond_the_window_has_its_part_of_a_shared_device():
    host = make_host("gpu-c01")
    device = make_device(host, 0)
    about = {"devices": (device.uuid,), "description": TOLD}
    enter(host, columns(120.0, 240.0, 240.0, first_ms=START_MS), run="long", process="a", **about)
    enter(host, columns(1.0, first_ms=START_MS), run="short", process="b", **about)
    enter(host, columns(1.0, first_ms=END_MS - 1000, number=[1]), run="short", process="b", **about)
    powered(host, [device])

    within_its_second_step = of(Run.objects.get(name="long"), START_MS + 150_000, START_MS + 210_000)
    assert within_its_second_step.energy.shared_with == ("short",)
    assert within_its_second_step.joules.value == pytest.approx(600 * 60, rel=1e-2)


def test_a_run_that_went_on_elsewhere_has_an_mfu_within_one_start_only():
    run = a_run(1, n_steps=180)[2]
    other = make_host("gpu-b01")
    later = columns(*[1.0] * 300, first_ms=START_MS + 300_000, number=list(range(180, 480)))
    enter(other, later, run="llm", process="later", devices=(make_device(other, 0).uuid,), description=TOLD)

    whole, first = of(run), of(run, START_MS, START_MS + 120_000)
    assert (whole.mfu.value, whole.ofu.value) == (None, None)
    assert "other devices" in whole.mfu.why
    assert "other devices" in whole.ofu.why
    assert first.mfu.value is not None


def test_a_run_whose_devices_are_unknown_is_taken_from_its_hosts_meter():
    host = make_host("mlperf-01")
    node = make_device(host, kind=DeviceKind.NODE, uuid="node-1", model="")
    steps = columns(*[1.0] * 600, first_ms=START_MS)
    run = enter(host, steps)
    powered(host, [node], watts=9000.0)
    found = of(run)
    assert found.joules_per_step.value == pytest.approx(9000, rel=1e-2)
    assert "at the hosts' meters" in found.joules.remark
    assert found.mfu.value is None


def test_a_window_without_a_step_has_reasons_and_no_figures():
    _, _, run = a_run()
    found = of(run, END_MS + 60_000, END_MS + 120_000)
    assert found.counted_ms is None
    assert found.goodput.share is None
    for figure in (found.samples_per_second, found.mfu, found.ofu, found.joules, found.cost):
        assert figure.value is None
        assert figure.why


def test_work_that_a_later_start_did_again_is_lost_also_where_the_window_ends_before_it():
    host, devices, run = a_run(1, n_steps=100)
    again = columns(*[1.0] * 50, first_ms=START_MS + 200_000, number=list(range(90, 140)), samples=[8.0] * 50)
    enter(host, again, run="llm", rank=0, process="llm-again", devices=(devices[0].uuid,))
    run.refresh_from_db()
    assert run.restarts == 1
    found = of(run, START_MS, START_MS + 100_000)
    assert found.goodput.seconds[Spent.REDONE] == pytest.approx(10)
    whole = of(run)
    assert whole.goodput.seconds[Spent.RESTART] == pytest.approx(100)


def test_a_pause_at_the_windows_edge_is_what_it_is_and_no_stall():
    _, _, run = a_run(1, seconds=1.0, n_steps=60)
    for first in range(60, 600, 60):  # a pause of half a second each minute
        steps = columns(*[1.0] * 59, first_ms=START_MS + first * 1000 + 500, number=list(range(first, first + 59)))
        enter(run.host, steps, run="llm", rank=0, process="llm-0")
    found = of(run, START_MS + 120_250, START_MS + 240_250)
    assert found.goodput.seconds[Spent.STALL] == 0
    assert found.goodput.seconds[Spent.BETWEEN] == pytest.approx(2 * 1.0)


def test_a_window_that_begins_within_a_restart_tells_it():
    host, devices, run = a_run(1, n_steps=60)
    again = columns(*[1.0] * 60, first_ms=START_MS + 300_000, number=list(range(60, 120)))
    enter(host, again, run="llm", rank=0, process="llm-again", devices=(devices[0].uuid,))
    found = of(run, START_MS + 200_000, START_MS + 330_000)
    assert found.goodput.seconds[Spent.RESTART] == pytest.approx(100)
    assert found.goodput.seconds[Spent.PRODUCTIVE] == pytest.approx(30)


def test_energy_by_run_is_of_each_runs_own_time():
    host, devices, one = a_run(1, run="one", n_steps=300)
    _, _, other = a_run(1, host=host, devices=devices, run="other", first_ms=START_MS + 300_000, n_steps=300)
    powered(host, devices)
    for run in (one, other):
        run.refresh_from_db()
    found = by_run({run: members(run) for run in (one, other)}, START_MS, END_MS)
    assert [energy.account.joules for energy in found.values()] == pytest.approx([180_000, 180_000], rel=1e-2)
    assert RunRank.objects.count() == 2
