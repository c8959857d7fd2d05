"""GET /metrics and GET /api/v1/prometheus/sd: who may read them, in which form, and what they refuse."""

import gzip

import pytest
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone

from fleet.models import Host, Origin
from telemetry.exposition import renderer
from telemetry.exposition.renderer import Renderer
from telemetry.exposition.textformat import OPENMETRICS, TEXT
from tests.people import script, signed_in
from tests.telemetry.exposed import at_once, make_host, samples

pytestmark = pytest.mark.django_db

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture(autouse=True)
def _own_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Renderer(at_once)
    monkeypatch.setattr(renderer, "of_this_process", lambda: own)


@pytest.fixture
def reader() -> Client:
    return script()


def test_nobody_reads_it_without_a_token(client: Client) -> None:
    response = client.get("/metrics")
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")


def test_anybody_reads_it_where_the_setting_says_so(client: Client, settings: LazySettings) -> None:
    settings.STEPWATT_METRICS_ANONYMOUS = True
    assert client.get("/metrics").status_code == 200


def test_a_signed_in_person_reads_it() -> None:
    assert signed_in().get("/metrics").status_code == 200


def test_a_token_reads_the_newest_values(reader: Client) -> None:
    make_host(now=timezone.now())
    assert samples(reader.get("/metrics").content.decode())["stepwatt_power_draw_watts"] == 683.412


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", TEXT),
        ("text/html", TEXT),
        ("text/plain,application/openmetrics-text;q=0.5", TEXT),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.5", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_the_accept_header_chooses_the_format(reader: Client, accept: str, content_type: str) -> None:
    response = reader.get("/metrics", headers={"accept": accept})
    assert response["Content-Type"] == content_type
    assert response.content.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


@pytest.mark.parametrize("accept", ["gzip", "deflate, GZIP;q=0.5", "*", "br, *;q=0.1", "gzip;q=1.000"])
def test_it_is_compressed_where_the_scraper_takes_that(reader: Client, accept: str) -> None:
    make_host()
    response = reader.get("/metrics", headers={"accept-encoding": accept})
    assert response["Content-Encoding"] == "gzip"
    assert b"stepwatt_host_up" in gzip.decompress(response.content)


@pytest.mark.parametrize(
    "accept", ["", "identity", "br", "gzip;q=0", "gzip; q=0.0, *", "*;q=0", "gzip;q=x", "gzip" + " " * 30_000 + "x"]
)
def test_it_is_plain_where_the_scraper_takes_no_gzip(reader: Client, accept: str) -> None:
    make_host()
    response = reader.get("/metrics", headers={"accept-encoding": accept})
    assert "Content-Encoding" not in response
    assert b"stepwatt_host_up" in response.content


def test_caches_are_told_what_it_depends_on(reader: Client) -> None:
    assert {name.strip() for name in reader.get("/metrics")["Vary"].split(",")} >= {"Accept", "Accept-Encoding"}


def test_one_host_can_be_asked_for(reader: Client) -> None:
    make_host(now=timezone.now())
    make_host("gpu-a02", now=timezone.now(), uuid="GPU-2")
    text = reader.get("/metrics?host=gpu-a02").content.decode()
    assert "gpu-a02" in text
    assert "gpu-a01" not in text


def test_one_naming_can_be_asked_for(reader: Client) -> None:
    make_host(now=timezone.now())
    assert "stepwatt_" not in reader.get("/metrics?names=dcgm").content.decode()
    assert "DCGM_" not in reader.get("/metrics?names=stepwatt").content.decode()


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("names=all", 400, "names"),
        ("names=", 400, "names"),
        ("names=dcgm&names=stepwatt", 400, "names"),
        ("cluster=alpha", 400, "cluster"),
        ("host=nobody", 404, "host"),
        ("host=", 404, "host"),
    ],
)
def test_it_names_the_parameter_that_it_refuses(reader: Client, query: str, status: int, field: str) -> None:
    response = reader.get(f"/metrics?{query}")
    assert response.status_code == status
    assert response.json()["error"]["field"] == field


# Service discovery --------------------------------------------------------------------------------------------


def targets(reader: Client) -> list[dict]:
    answer = reader.get("/api/v1/prometheus/sd")
    assert answer["Content-Type"].startswith("application/json")
    return answer.json()


def test_each_host_is_a_target_through_this_server(reader: Client) -> None:
    host = make_host().host
    Host.objects.filter(pk=host.pk).update(labels={"rack": "r1", "k8s.io/zone": 7})
    assert targets(reader) == [
        {
            "targets": ["testserver"],
            "labels": {
                "__scheme__": "http",
                "__metrics_path__": "/metrics",
                "__param_host": "gpu-a01",
                "instance": "gpu-a01",
                "__meta_stepwatt_host": "gpu-a01",
                "__meta_stepwatt_cluster": "alpha",
                "__meta_stepwatt_origin": "real",
                "__meta_stepwatt_label_rack": "r1",
                "__meta_stepwatt_label_k8s_io_zone": "7",
            },
        }
    ]


def test_targets_are_named_as_the_server_is_known_outside(reader: Client, settings: LazySettings) -> None:
    settings.STEPWATT_PUBLIC_URL = "https://stepwatt.example:8443"
    make_host()
    (group,) = targets(reader)
    assert group["targets"] == ["stepwatt.example:8443"]
    assert group["labels"]["__scheme__"] == "https"


def test_a_simulated_host_is_a_target_and_a_recording_is_none(reader: Client) -> None:
    make_host("virtual", origin=Origin.SIMULATED)
    make_host("recorded", origin=Origin.IMPORTED, uuid="GPU-2")
    assert [group["labels"]["instance"] for group in targets(reader)] == ["virtual"]


def test_what_it_names_can_be_scraped(reader: Client) -> None:
    make_host(now=timezone.now())
    (group,) = targets(reader)
    labels = group["labels"]
    response = reader.get(labels["__metrics_path__"], {"host": labels["__param_host"]})
    assert samples(response.content.decode())["stepwatt_power_draw_watts"] == 683.412


def test_nobody_discovers_without_a_token(client: Client) -> None:
    assert client.get("/api/v1/prometheus/sd").status_code == 401


def test_discovery_takes_no_parameters(reader: Client) -> None:
    response = reader.get("/api/v1/prometheus/sd?cluster=alpha")
    assert response.status_code == 400
    assert response.json()["error"]["field"] == "cluster"
