"""Scrape after scrape of one server: what changes is told anew, what ends leaves, and what stays is not made again."""

import gzip
from datetime import timedelta

import pytest

from fleet.models import Device, DeviceKind, Host, Origin
from telemetry.exposition import scrape
from telemetry.exposition.own_names import Names
from telemetry.exposition.pieces import piece_of
from telemetry.exposition.scrape import Fleet, UnknownHost, Wanted
from telemetry.models import LatestState
from telemetry.newest import queries
from tests.telemetry.exposed import NOW, READINGS, UUID, add_device, expose, make_host, samples, tell

pytestmark = pytest.mark.django_db
ALL = tuple(Names)
POWER = "stepwatt_power_draw_watts"


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_new_readings_are_told(fleet: Fleet) -> None:
    gpu = make_host()
    expose(fleet=fleet)
    tell(gpu, READINGS | {"power_draw_watts": 700.5}, later_ms=1000)
    found = samples(expose(fleet=fleet))
    assert found[POWER] == 700.5
    assert found["DCGM_FI_DEV_POWER_USAGE"] == 700.5


def test_a_batch_of_a_host_whose_clock_was_set_back_is_told(fleet: Fleet) -> None:
    gpu = make_host()
    expose(fleet=fleet)
    tell(gpu, READINGS | {"power_draw_watts": 1.5})  # at the same time by the host's own clock
    Host.objects.update(heard_at=NOW)
    assert samples(expose(fleet=fleet))[POWER] == 1.5


def test_a_metric_that_comes_and_goes_is_told_while_it_is_there(fleet: Fleet) -> None:
    gpu = make_host()
    expose(fleet=fleet)
    tell(gpu, {"fan_speed_ratio": 0.5}, later_ms=1000)
    found = samples(expose(fleet=fleet))
    assert found["stepwatt_fan_speed_ratio"] == 0.5
    assert POWER not in found


def test_metrics_that_move_from_one_device_to_another_keep_their_place(fleet: Fleet) -> None:
    gpu = make_host(values={"fan_speed_ratio": 0.1, "power_draw_watts": 1.5})
    other = add_device(gpu.host, {}, uuid="GPU-2", kind=DeviceKind.NVIDIA, index=1)
    expose(fleet=fleet)
    tell(gpu, {"fan_speed_ratio": 0.1})
    tell(other, {"power_draw_watts": 1.5})
    Host.objects.update(heard_at=NOW)
    assert f'{POWER}{{host="gpu-a01",cluster="alpha",device="1",uuid="GPU-2"}} 1.5\n' in expose(fleet=fleet)


def test_a_host_that_sends_nothing_more_falls_silent(fleet: Fleet) -> None:
    make_host()
    assert POWER in samples(expose(fleet=fleet, now=NOW + timedelta(seconds=28)))
    found = samples(expose(fleet=fleet, now=NOW + timedelta(seconds=29)))
    assert POWER not in found
    assert found["stepwatt_host_up"] == 0


def test_a_host_that_is_heard_again_comes_back(fleet: Fleet) -> None:
    make_host(seconds_ago=100)
    assert POWER not in samples(expose(fleet=fleet))
    Host.objects.update(heard_at=NOW)
    assert samples(expose(fleet=fleet))[POWER] == 683.412


@pytest.mark.parametrize(
    ("field", "value", "label"),
    [("model", "NVIDIA L40", 'modelName="NVIDIA L40"'), ("index", 7, 'gpu="7"'), ("driver_version", "9", '="9"')],
)
def test_a_device_that_is_described_anew_wears_it(fleet: Fleet, field: str, value: object, label: str) -> None:
    make_host()
    expose(fleet=fleet)
    Device.objects.update(**{field: value})
    assert label in expose(Names.DCGM, fleet=fleet)


def test_a_host_that_moves_to_another_cluster_wears_it(fleet: Fleet) -> None:
    make_host()
    expose(fleet=fleet)
    Host.objects.update(cluster="beta")
    text = expose(Names.STEPWATT, fleet=fleet)
    assert f'{POWER}{{host="gpu-a01",cluster="beta"' in text
    assert "alpha" not in text


def test_a_device_that_is_deleted_leaves(fleet: Fleet) -> None:
    gpu = make_host()
    add_device(gpu.host, READINGS, uuid="GPU-2", kind=DeviceKind.NVIDIA, index=1)
    expose(fleet=fleet)
    gpu.delete()
    text = expose(fleet=fleet)
    assert UUID not in text
    assert "GPU-2" in text


def test_a_host_that_is_removed_leaves(fleet: Fleet) -> None:
    gpu = make_host()
    make_host("gpu-a02", uuid="GPU-2")
    expose(fleet=fleet)
    gpu.host.delete()
    assert "gpu-a01" not in expose(fleet=fleet)


def test_one_host_can_be_asked_for_between_scrapes_of_all(fleet: Fleet) -> None:
    make_host()
    make_host("gpu-a02", uuid="GPU-2")
    expose(fleet=fleet)
    text = fleet.document(Wanted(ALL, host="gpu-a02"), NOW).decode()
    assert "gpu-a02" in text
    assert "gpu-a01" not in text
    assert "gpu-a01" in expose(fleet=fleet)


def test_a_host_that_there_is_not_is_told_as_such(fleet: Fleet) -> None:
    with pytest.raises(UnknownHost, match="nobody"):
        fleet.document(Wanted(ALL, host="nobody"), NOW)


def test_only_what_changed_is_read_again(fleet: Fleet, django_assert_num_queries) -> None:
    make_host()
    make_host("gpu-a02", uuid="GPU-2")
    with django_assert_num_queries(4):
        fleet.refresh(NOW)
    with django_assert_num_queries(3):
        fleet.refresh(NOW)


@pytest.mark.parametrize("openmetrics", [False, True])
@pytest.mark.parametrize("host", ["", "gpu-a02"])
def test_the_compressed_body_is_the_same_text(fleet: Fleet, openmetrics: bool, host: str) -> None:
    for number in range(70):  # more than one group of hosts
        make_host(f"gpu-a{number:02}", uuid=f"GPU-{number}")
    plain = fleet.document(Wanted(ALL, openmetrics, gzip=False, host=host), NOW)
    assert gzip.decompress(fleet.document(Wanted(ALL, openmetrics, gzip=True, host=host), NOW)) == plain


def test_what_did_not_change_is_not_compressed_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = make_host()
    wanted = Wanted((Names.STEPWATT,), gzip=True)
    fleet.document(wanted, NOW)
    compressed = []
    monkeypatch.setattr(scrape, "piece_of", lambda text: compressed.append(text) or piece_of(text))
    tell(gpu, READINGS | {"power_draw_watts": 700.5}, later_ms=1000)
    assert b"700.5" in gzip.decompress(fleet.document(wanted, NOW))
    assert [POWER.encode() in text for text in compressed] == [True]


CASES = {
    "fresh": (2, Origin.REAL, READINGS, {}),
    "silent": (31, Origin.REAL, READINGS, {}),
    "lost": (2, Origin.REAL, {"fan_speed_ratio": 0.5}, {"power_draw_watts": "gpu_is_lost"}),
    "to be reset": (2, Origin.REAL, {"fan_speed_ratio": 0.5}, {"power_draw_watts": "reset_required"}),
    "simulated": (2, Origin.SIMULATED, READINGS, {"fan_speed_ratio": "not_supported"}),
    "released": (2, Origin.REAL, {}, {"power_draw_watts": "released"}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_tells_the_readings_that_the_pages_show(case: str) -> None:
    seconds_ago, origin, values, absent = CASES[case]
    make_host(seconds_ago=seconds_ago, origin=origin, values=values, absent=absent)
    (device,) = queries.fleet_state(NOW).hosts[0].devices
    found = samples(expose(Names.STEPWATT))
    told = {name: found[f"stepwatt_{name}"] for name in READINGS | values if f"stepwatt_{name}" in found}
    assert told == device.values


def test_an_instance_that_its_host_names_no_more_is_on_no_page_either() -> None:
    gpu = make_host()
    add_device(gpu.host, {}, uuid="MIG-1", kind=DeviceKind.NVIDIA, index=0, parent=gpu, profile="1g.10gb")
    row = LatestState.objects.get(host=gpu.host)
    del row.devices["MIG-1"]
    row.save()
    shown = [state.device.uuid for state in queries.fleet_state(NOW).hosts[0].devices]
    assert ("MIG-1" in shown) == ("MIG-1" in expose())


def test_hosts_that_were_removed_are_forgotten_also_where_single_ones_are_asked_for(fleet: Fleet) -> None:
    make_host()
    make_host("gpu-a02", uuid="GPU-2")
    for name in ("gpu-a01", "gpu-a02"):
        fleet.refresh(NOW, name)
    removed = Host.objects.get(name="gpu-a02")
    pk = removed.pk
    removed.delete()
    fleet.refresh(NOW + timedelta(minutes=6), "gpu-a01")
    assert pk not in fleet._hosts
