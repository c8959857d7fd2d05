"""GET /dist/: what is offered, to whom, and how it is cached."""

from hashlib import sha256

import pytest
from django.test import Client

from telemetry import wheels


@pytest.fixture
def anybody():
    return Client()


def test_the_index_can_be_checked_by_sha256sum(anybody):
    lines = anybody.get("/dist/").content.decode().splitlines()

    assert [line.split("  ")[1] for line in lines] == [wheels.agent_wheel().name, wheels.client_wheel().name]
    for line in lines:
        digest, name = line.split("  ")
        assert sha256(anybody.get(f"/dist/{name}").content).hexdigest() == digest


def test_the_index_is_json_where_that_is_asked_for(anybody):
    items = anybody.get("/dist/", headers={"accept": "application/json"}).json()["items"]

    assert items[0]["url"] == f"http://testserver/dist/{wheels.agent_wheel().name}"


def test_a_wheel_that_did_not_change_is_not_sent_again(anybody):
    address = f"/dist/{wheels.agent_wheel().name}"
    etag = anybody.get(address).headers["ETag"]

    assert anybody.get(address, headers={"if-none-match": etag}).status_code == 304


@pytest.mark.django_db  # the error page looks for a session
@pytest.mark.parametrize("name", ["manage.py", "..%2fmanage.py", "stepwatt_agent-9-py3-none-any.whl", "."])
def test_nothing_else_is_offered(anybody, name):
    assert anybody.get(f"/dist/{name}").status_code == 404


def test_it_is_only_read(anybody):
    assert anybody.post("/dist/").status_code == 405
