"""Each fault of a device, from the agent's batch to what the page, the API and /metrics say of it."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from telemetry import catalog
from telemetry.catalog import AbsentReason
from telemetry.exposition import renderer
from telemetry.exposition.renderer import Renderer
from telemetry.message.wire import DeviceEvent, EventKind
from tests.people import signed_in
from tests.telemetry.batches import GPU, MIG, NODE, payload, take
from tests.telemetry.exposed import at_once
from tests.telemetry.watched import watch_for

pytestmark = pytest.mark.django_db

POWER = "power_draw_watts"


class Shown:
    """What a viewer, a script and Prometheus read of the fleet."""

    def __init__(self) -> None:
        self._client = signed_in()

    def page(self, path: str) -> str:
        text = re.sub(r"<[^>]+>", " ", self._client.get(path).content.decode())
        return re.sub(r"\s+", " ", text)

    def api(self, path: str) -> dict:
        return self._client.get(f"/api/v1/{path}").json()

    def metrics(self, name: str, uuid: str = GPU.uuid) -> list[float]:
        body = self._client.get("/metrics").content.decode()
        return [
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and uuid in {sample.labels.get("uuid"), sample.labels.get("UUID")}
        ]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    own = Renderer(at_once)
    monkeypatch.setattr(renderer, "of_this_process", lambda: own)
    return Shown()


@pytest.fixture
def report() -> Callable[..., None]:
    start_ms = int(timezone.now().timestamp()) * 1000 - 40_000  # a slow machine makes them old, which is another fault

    def send(second: int, columns: dict[str, float], **kwargs: object) -> None:
        ticks = {name: [value] for name, value in columns.items()}
        take(payload([start_ms + 1000 * second], ticks, sequence=second, **kwargs), timezone.now())

    return send


def all_absent(reason: AbsentReason) -> dict[str, AbsentReason]:
    return dict.fromkeys(catalog.BY_NAME, reason)


def test_a_lost_device_is_critical_everywhere_and_gives_no_value(shown, report):
    report(0, {POWER: 651.0})
    report(1, {}, absent=all_absent(AbsentReason.GPU_IS_LOST))
    watch_for(10)

    assert "gpu-a01 GPU 0: fell off the bus" in shown.page("/")
    assert "fell off the bus drain the host and power-cycle it" in shown.page(f"/devices/{GPU.uuid}/")
    device = shown.api(f"devices/{GPU.uuid}")
    assert (device["health"], device["readings"][POWER]["reason"]) == ("crit", "gpu_is_lost")
    assert shown.metrics("stepwatt_device_up") == [0]
    assert shown.metrics("stepwatt_power_draw_watts") == shown.metrics("DCGM_FI_DEV_POWER_USAGE") == []


def test_nothing_of_a_lost_device_counts_as_fresh_though_calls_still_answer(shown, report):
    report(0, {"energy_joules_total": 5e6}, absent={POWER: AbsentReason.GPU_IS_LOST})

    device = shown.api(f"devices/{GPU.uuid}")
    assert (device["health"], device["readings"]["energy_joules_total"]["value"]) == ("crit", None)
    assert "GPUs reporting 0 / 1" in shown.page("/")
    assert shown.metrics("stepwatt_energy_joules_total") == []


def test_a_device_that_must_be_reset_says_how(shown, report):
    report(0, {POWER: 80.0}, absent={"gpu_utilization_ratio": AbsentReason.RESET_REQUIRED})
    watch_for(10)

    page = shown.page(f"/devices/{GPU.uuid}/")
    assert "must be reset" in page
    assert "nvidia-smi --gpu-reset" in page
    assert shown.api("fleet/summary")["attention"][0]["title"] == "gpu-a01 GPU 0: must be reset"
    assert shown.metrics("stepwatt_device_up") == [0]


def test_a_call_that_hangs_names_the_device_and_leaves_the_others(shown, report):
    other = replace(GPU, uuid="GPU-2", index=1)
    report(0, {}, absent=all_absent(AbsentReason.TIMEOUT), device=other)
    report(1, {POWER: 651.0})
    watch_for(30)

    assert "gpu-a01 GPU 1: a driver call does not return" in shown.page("/hosts/gpu-a01/")
    assert shown.api("devices/GPU-2")["health"] == "warn"
    assert shown.api(f"devices/{GPU.uuid}")["health"] == "ok"
    assert shown.metrics("stepwatt_power_draw_watts") == [651]
    assert shown.metrics("stepwatt_power_draw_watts", "GPU-2") == []


def test_a_driver_that_was_let_go_is_a_warning_not_a_fault(shown, report):
    report(0, {}, absent=all_absent(AbsentReason.RELEASED))

    assert "driver let go for a reset" in shown.page("/hosts/gpu-a01/")
    device = shown.api(f"devices/{GPU.uuid}")
    assert (device["health"], device["note"]) == ("warn", "driver let go for a reset")
    assert shown.metrics("stepwatt_power_draw_watts") == []


@pytest.mark.parametrize("reason", [AbsentReason.RELEASED, AbsentReason.TIMEOUT, AbsentReason.UNKNOWN])
def test_a_device_without_a_reading_is_not_up_though_the_agent_counts_its_xids(shown, report, reason):
    report(0, {"xid_last": 0, "xid_errors_total": 0}, absent={POWER: reason})

    assert shown.metrics("stepwatt_device_up") == [0]
    assert "GPUs reporting 0 / 1 1 warning" in shown.page("/")


def test_a_driver_that_was_unloaded_is_a_warning_until_it_is_loaded_again(shown, report):
    report(0, {POWER: 651.0})
    report(1, {}, absent=all_absent(AbsentReason.DRIVER_AWAY))
    watch_for(30)

    assert "GPUs reporting 0 / 1 1 warning" in shown.page("/")
    assert "gpu-a01 GPU 0: the driver cannot be reached" in shown.page("/")
    assert "the driver cannot be reached load it (modprobe nvidia)" in shown.page(f"/devices/{GPU.uuid}/")
    assert shown.api("fleet/summary")["attention"][0]["title"] == "gpu-a01 GPU 0: the driver cannot be reached"
    device = shown.api(f"devices/{GPU.uuid}")
    assert (device["health"], device["readings"][POWER]["reason"]) == ("warn", "driver_away")
    assert shown.metrics("stepwatt_device_up") == [0]
    assert shown.metrics("stepwatt_power_draw_watts") == []

    report(2, {POWER: 80.0})
    watch_for(70)  # it is well when its alert has ended, after a minute without its cause
    assert "GPUs reporting 1 / 1 all healthy" in shown.page("/")
    assert shown.api(f"devices/{GPU.uuid}")["health"] == "ok"
    assert shown.metrics("stepwatt_device_up") == [1]


def test_a_device_that_gives_nothing_is_not_counted_as_healthy(shown, report):
    report(0, {}, absent=all_absent(AbsentReason.NOT_SUPPORTED))

    assert "GPUs reporting 0 / 1 1 without a reading" in shown.page("/")
    assert shown.metrics("stepwatt_device_up") == [0]


def test_an_instance_that_is_gone_is_named_nowhere_but_on_its_own_page(shown, report):
    report(0, {POWER: 100.0}, others=[MIG])
    assert MIG.uuid in shown.page("/hosts/gpu-a01/")
    assert shown.api(f"devices/{GPU.uuid}")["instances"] == [MIG.uuid]
    report(1, {POWER: 100.0})

    assert MIG.uuid not in shown.page("/hosts/gpu-a01/")
    assert shown.api(f"devices/{GPU.uuid}")["instances"] == []
    assert "its GPU is not divided like this any more" in shown.page(f"/devices/{MIG.uuid}/")
    assert shown.api(f"devices/{MIG.uuid}")["health"] == "silent"
    assert shown.metrics("stepwatt_power_draw_watts", MIG.uuid) == []


def test_a_device_whose_index_changed_after_a_reboot_is_the_same(shown, report):
    report(0, {POWER: 651.0})
    report(1, {POWER: 652.0}, device=replace(GPU, index=3))

    assert shown.api(f"devices/{GPU.uuid}")["index"] == 3
    assert "GPU 3" in shown.page("/hosts/gpu-a01/")
    assert shown.metrics("stepwatt_power_draw_watts") == [652]


def test_an_xid_is_named_with_its_meaning_and_passes(shown, report):
    at_ms = int(timezone.now().timestamp() * 1000) - 30_000
    xid = DeviceEvent(GPU.uuid, EventKind.XID, 119, at_ms, 1)
    report(0, {POWER: 651.0, "xid_last": 119, "xid_errors_total": 1}, events=[xid])

    page = shown.page(f"/devices/{GPU.uuid}/")
    assert "XID 119: GSP RPC Timeout" in page
    assert "119 GSP RPC Timeout" in page
    assert shown.api(f"devices/{GPU.uuid}")["health"] == "crit"
    assert shown.api("events")["items"][0]["code"] == 119
    assert shown.metrics("DCGM_FI_DEV_XID_ERRORS") == [119]


def test_an_xid_of_yesterday_is_an_event_but_no_alarm(shown, report):
    at_ms = int(timezone.now().timestamp() * 1000) - 86_400_000
    report(0, {POWER: 651.0, "xid_last": 119}, events=[DeviceEvent(GPU.uuid, EventKind.XID, 119, at_ms, 1)])

    assert shown.api(f"devices/{GPU.uuid}")["health"] == "ok"
    assert shown.api("events")["count"] == 1


def test_an_energy_counter_that_began_again_is_no_growth(shown, report):
    for second, joules in enumerate((5e6, 5e6 + 300, 200.0, 500.0)):
        report(second, {"energy_joules_total": joules})

    series = shown.api(f"devices/{GPU.uuid}/series?metric=energy_joules_total")["metrics"]["energy_joules_total"]
    assert sum(growth or 0 for growth in series["increase"]) == 600
    assert "Energy 500 J" in shown.page(f"/devices/{GPU.uuid}/")  # the counter's own reading
    assert shown.metrics("stepwatt_energy_joules_total") == [500]


def test_a_reading_that_was_no_number_is_a_dash_with_its_reason_and_the_others_stand(shown, report):
    report(0, {POWER: 651.0}, absent={"gpu_utilization_ratio": AbsentReason.UNKNOWN})

    assert "Utilisation — the driver gave an answer that is not understood Power 651 W" in shown.page(
        f"/devices/{GPU.uuid}/"
    )
    reading = shown.api(f"devices/{GPU.uuid}")["readings"]["gpu_utilization_ratio"]
    assert (reading["value"], reading["reason"]) == (None, "unknown")
    assert shown.metrics("stepwatt_gpu_utilization_ratio") == shown.metrics("DCGM_FI_DEV_GPU_UTIL") == []
    assert shown.metrics("stepwatt_power_draw_watts") == [651]


def test_a_driver_that_comes_after_the_agents_start_brings_its_devices(shown, report):
    report(0, {"host_memory_used_bytes": 2.0**30}, device=NODE)
    assert shown.metrics("stepwatt_device_up") == []
    assert "Nodes reporting 1 / 1" in shown.page("/")

    report(1, {"host_memory_used_bytes": 2.0**30}, device=NODE, others=[GPU])
    report(2, {POWER: 651.0})

    assert "GPUs reporting 1 / 1" in shown.page("/")
    assert "GPU 0 healthy Util — Power 651 W" in shown.page("/hosts/gpu-a01/")
    assert shown.api(f"devices/{GPU.uuid}")["readings"][POWER]["value"] == 651
    assert shown.metrics("stepwatt_device_up") == [1]


def test_a_board_that_is_pulled_while_the_host_runs_is_lost_and_the_others_go_on(shown, report):
    other = replace(GPU, uuid="GPU-2", index=1)
    report(0, {POWER: 651.0}, others=[other])
    report(1, {POWER: 640.0})
    report(2, {}, absent=all_absent(AbsentReason.GPU_IS_LOST), device=other)
    report(3, {POWER: 650.0})
    watch_for(10)

    assert "GPUs reporting 1 / 2 1 critical" in shown.page("/")
    assert "GPU 1 fell off the bus" in shown.page("/hosts/gpu-a01/")
    device = shown.api("devices/GPU-2")
    assert (device["health"], device["readings"][POWER]["reason"]) == ("crit", "gpu_is_lost")
    assert shown.metrics("stepwatt_device_up", "GPU-2") == [0]
    assert shown.metrics("stepwatt_power_draw_watts", "GPU-2") == []
    assert shown.metrics("DCGM_FI_DEV_POWER_USAGE", "GPU-2") == []
    assert shown.metrics("stepwatt_power_draw_watts") == [650]


def test_a_board_that_was_pulled_while_its_host_was_off_is_silent_until_it_is_back(shown, report):
    other = replace(GPU, uuid="GPU-2", index=1)
    report(0, {POWER: 300.0}, others=[other])
    report(40, {POWER: 650.0})

    assert "1 / 2 1 silent" in shown.page("/")
    assert shown.api("devices/GPU-2")["health"] == "silent"
    assert shown.metrics("stepwatt_power_draw_watts", "GPU-2") == []
    report(41, {POWER: 310.0}, device=other)
    assert "2 / 2 all healthy" in shown.page("/")
    assert shown.metrics("stepwatt_power_draw_watts", "GPU-2") == [310]
