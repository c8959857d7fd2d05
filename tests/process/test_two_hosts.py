"""An installation with a second host: PostgreSQL and Redis outside, an agent of another name beside the server's own."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.process.hosts import SecondHost, add_host, joined
from tests.process.traces import wait_until
from tests.servers import postgresql, redis
from tests.stack import Stack, start_stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("two-hosts")
    with postgresql() as database_url, redis(directory) as broker_url:
        settings = {"STEPWATT_DATABASE_URL": database_url, "STEPWATT_BROKER_URL": broker_url}
        with start_stack(directory, **settings) as running:
            yield running


@pytest.fixture(scope="module")
def client(stack) -> Iterator[httpx.Client]:
    client = stack.signed_in()
    yield client
    client.close()


@pytest.fixture(scope="module")
def second(stack, tmp_path_factory) -> Iterator[SecondHost]:
    host = joined(stack, "second", tmp_path_factory.mktemp("second"))
    with host.running():
        yield host


def reports(client: httpx.Client, name: str) -> bool:
    return client.get(f"/api/v1/hosts/{name}").json()["health"] in {"ok", "warn"}


def last_seen(client: httpx.Client, name: str) -> str:
    """Return the time of its newest sample."""
    host = client.get(f"/api/v1/hosts/{name}").json()
    assert host["last_seen_at"], host
    return host["last_seen_at"]


def refusals(client: httpx.Client, kind: str) -> int:
    items = client.get(f"/api/v1/events?kind={kind}").json()["items"]
    return sum(item["count"] for item in items)


def events(client: httpx.Client) -> set[tuple[str, str]]:
    """Return (kind, host) of what has happened."""
    return {(item["kind"], item["host"]) for item in client.get("/api/v1/events?limit=1000").json()["items"]}


def test_a_second_host_joins_and_reports(client, second):
    wait_until(lambda: reports(client, "second"), 180, "the second host's samples")

    assert client.get("/api/v1/hosts").json()["count"] == 2
    assert client.get("/hosts/second/").status_code == 200
    assert client.get("/readyz").json()["status"] == "ok"


def test_two_agents_on_one_machine_are_told_of(client, second):
    assert ("cloned_machine", "second") in events(client)


def test_an_order_reaches_its_host(stack, client, second):
    own = next(item["name"] for item in client.get("/api/v1/hosts").json()["items"] if item["name"] != "second")
    wait_until(lambda: client.get(f"/api/v1/hosts/{own}").json()["devices"], 180, "the device")

    launched = stack.manage("reference", "gpt-train", "--host", own, "--param", "steps=5", "--wait")

    assert launched.returncode == 0, launched.stdout + launched.stderr


def test_a_key_is_rotated_while_the_agent_runs(client, second):
    rotated = second.agent("rotate-key")

    assert rotated.returncode == 0, rotated.stderr
    wait_until(lambda: reports(client, "second"), 180, "samples under either key")
    before = last_seen(client, "second")
    wait_until(lambda: last_seen(client, "second") > before, 180, "samples under the new key")
    assert ("key_rotated", "second") in events(client)


def test_a_token_is_good_for_one_machine_only(stack, second, tmp_path):
    arguments = add_host(stack, "third")
    first, other = SecondHost("third", tmp_path / "a", {}), SecondHost("third", tmp_path / "b", {})

    assert first.agent("join", *arguments).returncode == 0
    refused = other.agent("join", *arguments)

    assert refused.returncode == 1
    assert "used before" in refused.stderr


def test_another_server_than_the_commands_is_not_joined(stack, tmp_path):
    url, _, token, _, fingerprint = add_host(stack, "fourth")
    wrong = fingerprint[:-5] + ("AAAAA" if fingerprint[-5:] != "AAAAA" else "BBBBB")

    refused = SecondHost("fourth", tmp_path, {}).agent("join", url, "--token", token, "--server-key", wrong)

    assert refused.returncode == 1
    assert not (tmp_path / "agent" / "membership.json").exists()


def test_a_reinstalled_host_joins_again_under_its_name(stack, client, second, tmp_path_factory):
    """The machine's files are gone; the agent of before, which still runs here, is no longer believed."""
    before = refusals(client, "forged_message")
    anew = joined(stack, "second", tmp_path_factory.mktemp("anew"))

    with anew.running():
        wait_until(lambda: refusals(client, "forged_message") > before, 180, "the refusal of the old agent")
        wait_until(lambda: reports(client, "second"), 180, "the new agent's samples")


def test_a_removed_host_is_a_stranger(stack, client, second):
    assert stack.manage("remove_host", "second", "--yes").returncode == 0

    wait_until(lambda: ("foreign_message", None) in events(client), 180, "the refusal of its agent")
    assert client.get("/api/v1/hosts/second").status_code == 404


def test_the_stack_s_log_names_no_secret(stack: Stack, second: SecondHost):
    for log in (stack.log, second.log):
        assert "geheim" not in log
        assert "swj_" not in log


def test_the_first_hosts_data_directory_is_its_owners_alone(stack: Stack):
    agent = Path(stack.directory) / "var" / "agent"
    assert agent.stat().st_mode & 0o077 == 0
    assert (agent / "host.key").stat().st_mode & 0o077 == 0
