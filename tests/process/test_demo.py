"""`manage.py up --demo`, which `make demo` calls: the product with a simulated fleet beside this machine, for a minute or so."""

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.process.traces import listening_ports, processes_of, wait_until
from tests.stack import ROOT, Stack

HOSTS, GPUS = 8, 8
FILLED_SECONDS = 480


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("demo"), "--demo")
    try:
        stack.start()
        yield stack
    finally:
        stack.kill_if_running()


@pytest.fixture(scope="module")
def client(demo) -> Iterator[httpx.Client]:
    client = demo.signed_in()
    yield client
    client.close()


def simulated(client: httpx.Client) -> list[dict]:
    hosts = client.get("/api/v1/hosts").raise_for_status().json()["items"]
    return [host for host in hosts if host["name"].startswith("demo-")]


def test_make_demo_calls_it():
    told = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert "manage.py up --demo" in told.stdout


def test_its_hosts_come_with_all_their_devices_and_are_marked(client):
    wait_until(
        lambda: [host["device_count"] for host in simulated(client)] == [GPUS] * HOSTS, FILLED_SECONDS, "the fleet"
    )
    assert {host["origin"] for host in simulated(client)} == {"simulated"}


def test_the_fleet_page_says_what_is_simulated(client):
    page = client.get("/").raise_for_status().text
    assert "Simulated data." in page
    assert f"{HOSTS} hosts do not exist" in page


def test_it_has_a_past_of_a_day_and_lives_on_from_there(client):
    begun = datetime.now(UTC)
    devices = client.get("/api/v1/devices", params={"limit": 100}).raise_for_status().json()["items"]
    uuid = next(each["uuid"] for each in devices if each["host"].startswith("demo-"))

    def known(start: datetime, end: datetime) -> int:
        asked = {"metric": "power_draw_watts", "start": start.isoformat(), "end": end.isoformat()}
        found = client.get(f"/api/v1/devices/{uuid}/series", params=asked).raise_for_status().json()
        return sum(value is not None for value in found["metrics"]["power_draw_watts"]["mean"])

    day_ago = begun - timedelta(hours=23, minutes=55)
    wait_until(lambda: known(day_ago, day_ago + timedelta(minutes=30)), FILLED_SECONDS, "samples of the day before")
    wait_until(lambda: known(begun, datetime.now(UTC) + timedelta(seconds=1)), FILLED_SECONDS, "samples of now")


def test_asked_once_to_stop_it_leaves_no_process_and_no_port(demo):
    port = int(demo.url.rpartition(":")[2])
    assert port in listening_ports()
    assert demo.stop() == 0, demo.log[-3000:]
    assert processes_of(demo.directory) == []
    assert port not in listening_ports()
