"""A real Prometheus scrapes a running server, and what it stored is asked back over its query API."""

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from django.utils import timezone

from fleet.access.auth import create_token
from fleet.models import Host, Role
from tests.ports import free_port
from tests.programs import require
from tests.stack import Stack
from tests.telemetry.exposed import UUID, make_host

DEADLINE_SECONDS = 120
Query = Callable[[str], dict[str, float]]

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: openmetrics
    authorization: {{credentials: "{token}"}}
    static_configs: [{{targets: ["{server}"]}}]
  - job_name: text
    authorization: {{credentials: "{token}"}}
    static_configs: [{{targets: ["{text_server}"]}}]
"""

# Debian's Prometheus sends no scheme with http_sd where the type is left to its default.
DISCOVERY = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: hosts
    authorization: {{credentials: "{token}"}}
    http_sd_configs:
      - url: "{url}/api/v1/prometheus/sd"
        refresh_interval: 1s
        authorization: {{type: Bearer, credentials: "{token}"}}
    relabel_configs:
      - {{source_labels: [__meta_stepwatt_label_rack], target_label: rack}}
"""


@pytest.fixture(autouse=True)
def _patience(settings) -> None:
    """Have a host that was heard when a test began still be heard when Prometheus has come to it, however busy the machine is."""
    settings.STEPWATT_SILENT_SECONDS = 3600


@pytest.fixture
def text_server(live_server) -> Iterator[str]:
    """A door to the server that asks for the text format: Debian's Prometheus cannot be told to."""

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {"Authorization": self.headers["Authorization"], "Accept": "text/plain;version=0.0.4"}
            request = Request(live_server.url + self.path, headers=headers)  # noqa: S310 — the test's own server
            with urlopen(request) as answer:  # noqa: S310 — the same
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.end_headers()
                self.wfile.write(answer.read())

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def prometheus(directory: Path, configuration: str, label: str) -> Iterator[Query]:
    """Run a Prometheus of the test's own; yields what asks it: returns value by that label."""
    file = directory / "prometheus.yml"
    file.write_text(configuration)
    address = f"127.0.0.1:{free_port()}"
    storage = f"--storage.tsdb.path={directory / 'data'}"
    options = (f"--config.file={file}", storage, f"--web.listen-address={address}", "--log.level=error")
    process = subprocess.Popen([require("prometheus"), *options])

    def ask(expression: str) -> dict[str, float]:
        try:
            with urlopen(f"http://{address}/api/v1/query?query={quote(expression)}") as answer:
                rows = json.load(answer)["data"]["result"]
        except URLError:
            return {}  # it is still starting
        return {row["metric"][label]: float(row["value"][1]) for row in rows}

    try:
        yield ask
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_SECONDS)


@pytest.fixture
def query(live_server, text_server: str, tmp_path: Path) -> Iterator[Query]:
    """Ask of one host by scrape job: one takes OpenMetrics, as Prometheus does by itself, the other the text format.

    The host is there before anybody scrapes: the server's thread has the same connection to the database as the test.
    """
    make_host(now=timezone.now())
    token = create_token("prometheus", Role.VIEWER)
    server = live_server.url.removeprefix("http://")
    configuration = CONFIGURATION.format(token=token, server=server, text_server=text_server)
    with prometheus(tmp_path, configuration, "job") as ask:
        yield ask


@pytest.fixture
def discovering(live_server, tmp_path: Path) -> Iterator[Query]:
    """Ask by instance, of two hosts that Prometheus discovers by itself."""
    make_host(now=timezone.now())
    other = make_host("gpu-a02", now=timezone.now(), uuid="GPU-2", values={"power_draw_watts": 95.5})
    Host.objects.filter(pk=other.host_id).update(labels={"rack": "r7"})
    configuration = DISCOVERY.format(token=create_token("prometheus", Role.VIEWER), url=live_server.url)
    with prometheus(tmp_path, configuration, "instance") as ask:
        yield ask


def wait_for(query: Query, expression: str, expected: dict[str, float]) -> dict[str, float]:
    """Return the last answer: the expected one, or what stood there at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := query(expression)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_prometheus_stores_the_values_of_both_formats_and_namings(query: Query) -> None:
    for expression, value in (
        (f'stepwatt_power_draw_watts{{uuid="{UUID}"}}', 683.412),
        ('DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0",Hostname="gpu-a01"}', 5_551_899_580),
    ):
        expected = {"openmetrics": value, "text": value}
        assert wait_for(query, expression, expected) == expected


def test_the_series_of_a_host_that_went_silent_end(query: Query) -> None:
    running = {"openmetrics": 683.412, "text": 683.412}
    assert wait_for(query, "stepwatt_power_draw_watts", running) == running
    Host.objects.update(heard_at=timezone.now() - timedelta(hours=2))
    assert wait_for(query, "stepwatt_power_draw_watts", {}) == {}
    assert wait_for(query, "stepwatt_host_up", {"openmetrics": 0, "text": 0}) == {"openmetrics": 0, "text": 0}


def test_prometheus_discovers_the_hosts_and_records_each_as_an_instance(discovering: Query) -> None:
    # Where a scrape takes too long, what it would have found is stale until the next.
    expected = {"gpu-a01": 683.412, "gpu-a02": 95.5}
    assert wait_for(discovering, "stepwatt_power_draw_watts", expected) == expected
    assert wait_for(discovering, "max_over_time(stepwatt_power_draw_watts[1m])", expected) == expected
    without, second = 'stepwatt_power_draw_watts{host="gpu-a02",exported_host=""}', {"gpu-a02": 95.5}
    assert wait_for(discovering, without, second) == second
    assert wait_for(discovering, 'up{rack="r7"}', {"gpu-a02": 1}) == {"gpu-a02": 1}


def test_prometheus_discovers_this_machine_from_the_whole_product(stack: Stack, tmp_path: Path) -> None:
    token = stack.manage("create_token", "prometheus-sd", "--role", "viewer").stdout.strip()
    host = socket.gethostname()
    with prometheus(tmp_path, DISCOVERY.format(token=token, url=stack.url), "instance") as ask:
        up = {host: 1.0}
        assert wait_for(ask, f'stepwatt_host_up{{host="{host}"}}', up) == up
        assert wait_for(ask, f'max_over_time(up{{instance="{host}"}}[1m])', up) == up
