"""Brokers with TLS and a password, real servers on the loopback: what the apps and the whole product do with a certificate."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from fleet.up import startup
from telemetry.broker.transport import CELERY_OPTIONS, broker_tls
from tests.certificates import Authority
from tests.process.traces import wait_until
from tests.servers import rabbitmq, redis
from tests.stack import Stack, start_stack

SERVERS = {"Redis": redis, "RabbitMQ": rabbitmq}


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=SERVERS)
def broker_url(request, authority, tmp_path_factory) -> Iterator[str]:
    files = authority.server("127.0.0.1")
    with SERVERS[request.param](tmp_path_factory.mktemp("broker"), files) as url:
        yield url


def app(url: str, ca_file: Path | str) -> Celery:
    """Return an app as server and agent make theirs."""
    made = Celery("test", broker=url, set_as_current=False, fixups=[])
    made.conf.update(CELERY_OPTIONS, broker_use_ssl=broker_tls(url, str(ca_file)))
    return made


def reach(broker: Celery) -> None:
    with broker.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=60)


def test_a_message_gets_through_under_a_certificate_of_the_named_authority(broker_url, authority):
    both_ways = app(broker_url, authority.file)
    for queue in ("telemetry", "host.gpu-a01"):
        both_ways.send_task("a.task", [b"payload"], queue=queue)

        with both_ways.connection_for_read() as connection:
            taken = taken_from(connection, queue)
            assert taken.headers["task"] == "a.task"


def taken_from(connection, queue: str):
    with connection.SimpleQueue(queue) as simple:
        simple.consumer.accept = {"application/x-msgpack"}
        message = simple.get(timeout=60)
        message.ack()
        return message


def test_a_certificate_of_another_authority_is_refused(broker_url, tmp_path):
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        reach(app(broker_url, Authority(tmp_path, "somebody").file))


def test_without_a_named_authority_the_systems_decide(broker_url):
    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        reach(app(broker_url, ""))


def test_a_certificate_for_another_address_is_refused(broker_url, authority):
    by_another_name = broker_url.replace("127.0.0.1", "127.1")  # not localhost, which kombu itself turns into 127.0.0.1

    with pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        reach(app(by_another_name, authority.file))


def test_a_wrong_password_is_one_line_for_whoever_starts_the_server(broker_url, authority, monkeypatch):
    url = broker_url.replace("geheim", "geraten")
    monkeypatch.setattr(startup, "app", app(url, authority.file))

    with pytest.raises(startup.StartRefused, match="cannot be reached") as refusal:
        startup.check_broker(url)

    assert "geraten" not in str(refusal.value)


def test_telemetry_and_orders_get_through_the_whole_product(broker_url, authority, tmp_path):
    settings = {"STEPWATT_BROKER_URL": broker_url, "STEPWATT_BROKER_CA": str(authority.file)}
    with start_stack(tmp_path, **settings) as stack:
        client = stack.signed_in()
        wait_until(lambda: client.get("/api/v1/devices").json()["count"] > 0, 180, "the first samples")
        name = client.get("/api/v1/hosts").json()["items"][0]["name"]
        client.close()

        launched = stack.manage("reference", "gpt-train", "--host", name, "--param", "steps=5", "--wait")

        assert launched.returncode == 0, launched.stdout + launched.stderr


def test_a_server_does_not_start_on_a_broker_of_another_authority(broker_url, tmp_path):
    other = Authority(tmp_path, "somebody").file
    stack = Stack(tmp_path, STEPWATT_BROKER_URL=broker_url, STEPWATT_BROKER_CA=str(other))

    ended = stack.manage("up")

    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert "certificate verify failed" in ended.stderr
    assert "STEPWATT_BROKER_CA" in ended.stderr
