"""The main job, end to end: a fresh clone, an empty HOME, `make up`, and a training job by the button's API.

The tests stand in the order of a first day and share one run. They take minutes: the clone makes its own .venv.
"""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.site import INSTALL_SECONDS, START_SECONDS, STOP_SECONDS, Site
from tests.process.traces import listening_ports, processes_of, wait_until

ENDED = {"done", "failed", "cancelled", "lost"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("first-day"))
    site.start(within_seconds=INSTALL_SECONDS)
    yield site
    if site.make.is_running():
        site.stop()


@pytest.fixture(scope="module")
def host(site: Site) -> str:
    """Return the name under which this machine reports, once it is there."""
    assert site.sign_in().headers["location"] == "/"
    wait_until(lambda: site.get_json("devices")["count"] > 0, 180, "the first device")
    return site.get_json("hosts")["items"][0]["name"]


def test_it_brings_its_own_broker(site):
    programs = {Path(process.exe()) for process in site.processes}
    servers = [program for program in programs if program.name.endswith("-server")]
    assert len(servers) == 1
    assert servers[0].is_relative_to(site.clone / ".venv")


def test_its_web_server_runs_on_the_loop_and_the_parser_that_are_compiled(site):
    (web,) = [process for process in site.processes if "fleet.asgi:application" in process.cmdline()]
    loaded = {"/".join(Path(each.path).parts[-2:]).partition(".")[0] for each in web.memory_maps()}
    assert {"uvloop/loop", "parser/parser"} <= loaded


def test_a_stranger_is_sent_to_the_login_page(site):
    with socket.create_connection(("127.0.0.1", site.port), 60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"location: /login/" in connection.recv(4096).lower()


def test_this_machines_devices_are_on_its_page(site, host):
    page = site.client.get(f"/hosts/{host}/").raise_for_status().text
    devices = [device["uuid"] for device in site.get_json("devices")["items"]]
    assert devices
    assert [uuid for uuid in devices if uuid not in page] == []


def test_its_readings_are_real_or_absent_with_a_reason(site, host):
    readings = site.get_json("devices")["items"][0]["readings"].values()
    assert any(reading["value"] is not None for reading in readings)
    assert all(reading["value"] is not None or reading["reason"] for reading in readings)


def test_gpt_train_runs_to_its_end_with_a_falling_loss(site, host):
    job = site.launch("gpt-train", host, {"steps": 30})
    wait_until(lambda: site.get_json(job)["state"] in ENDED, 480, "the job's end")
    ended = site.get_json(job)
    assert ended["state"] == "done", ended
    assert ended["result"]["loss_end"] < ended["result"]["loss_start"]


def test_the_metrics_name_this_machine(site, host):
    exposition = site.client.get("/metrics").raise_for_status().text
    assert f'stepwatt_host_up{{host="{host}"' in exposition


def test_one_sigterm_leaves_no_process_and_no_socket(site, host):
    processes = site.processes
    ports = listening_ports({process.pid for process in processes})
    assert {site.port} < ports  # the web server's and the broker's
    assert (site.clone / "var" / "agent" / "steps.sock").exists()
    site.stop()
    assert processes_of(site.clone) == []
    assert not any(process.is_running() for process in processes)
    assert ports.isdisjoint(listening_ports())
    assert not (site.clone / "var" / "agent" / "steps.sock").exists()


def test_a_second_start_goes_on_with_what_is_there(site, host):
    site.start(within_seconds=START_SECONDS)
    assert "one-time password" not in site.output
    assert site.client.get("/").status_code == 200  # the session of before still holds
    site.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_end_in_the_middle_of_a_job_leaves_no_process(site, host, number):
    site.start(within_seconds=START_SECONDS)
    wait_until(lambda: site.get_json("reference/jobs?active=true")["count"] == 0, 240, "the earlier job's end")
    job = site.launch("gpt-train", host, {"steps": 10_000})
    wait_until(lambda: site.get_json(job)["step"] > 0, 240, "the job's first step")
    site.supervisor.send_signal(number)
    wait_until(lambda: processes_of(site.clone) == [], 180, "the end of every process")
    site.make.wait(STOP_SECONDS)
