"""POST join over HTTP: what is answered, signed, and refused, to whom."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from fleet.access import throttle
from fleet.access.audit import Actor
from fleet.joining.enrolment import add_host
from fleet.models import Event, EventKind, Host, JoinAttempt
from telemetry.decoding import received
from telemetry.message import wire
from tests.fleet.candidates import URL, Candidate
from tests.fleet.test_api import check_error

pytestmark = pytest.mark.django_db


@pytest.fixture
def token() -> str:
    return add_host("gpu-a01", "atlas", None, Actor("ada"), timezone.now())[1]


def test_an_agent_learns_who_it_is_and_where_the_broker_is(token, settings):
    settings.CELERY_BROKER_URL = "rediss://:geheim@broker.example.org:6380/0"
    candidate = Candidate()

    answer = candidate.join(token)

    assert answer.status_code == 200, answer.content
    membership = json.loads(candidate.verified(answer.json()))
    at = datetime.fromtimestamp(membership.pop("server_time_ms") / 1000, UTC)
    assert abs(at - timezone.now()) < timedelta(seconds=10)
    assert membership == {
        "host": "gpu-a01",
        "cluster": "atlas",
        "broker_url": "rediss://:geheim@broker.example.org:6380/0",
        "wire_version": wire.VERSION,
    }


def test_the_answer_is_signed_for_the_key_that_asked(token):
    answer = Candidate().join(token).json()

    with pytest.raises(Exception, match=r"^$"):  # InvalidSignature has no text
        Candidate().verified(answer)


def test_who_asked_and_from_where_stands_in_the_event(token):
    Candidate().join(token, Client(REMOTE_ADDR="198.51.100.7"))

    detail = Event.objects.get(kind=EventKind.HOST_JOINED).detail
    assert detail == {"agent_version": "0.1.0", "address": "198.51.100.7"}


def test_a_token_that_is_none_is_refused():
    check_error(Candidate().join("swj_guess"), 403, "join_refused")


def test_another_hosts_key_is_refused(token):
    candidate = Candidate()
    candidate.join(token)
    other = add_host("gpu-a02", None, None, Actor("ada"), timezone.now())[1]

    check_error(candidate.join(other), 409, "key_in_use", "public_key")


@pytest.mark.parametrize("version", [0, wire.VERSION + 1, None])
def test_an_agent_whose_messages_could_not_be_read_is_refused(token, version):
    check_error(Candidate().join(token, wire_version=version), 400, "invalid", "wire_version")

    assert Candidate().join(token, wire_version=received.READ_VERSIONS[0]).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"public_key": "AAAA"}, "public_key"),
        ({"public_key": "ä"}, "public_key"),
        ({"public_key": None}, "public_key"),
        ({"machine": "x" * 32}, "machine"),
        ({"machine": ""}, "machine"),
        ({"agent_version": "1\n2"}, "agent_version"),
        ({"token": ""}, "token"),
        ({"token": "a" * 101}, "token"),
        ({"host": "gpu-a01"}, "token"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_understood_is_refused_by_its_field(token, changes, field):
    check_error(Candidate().join(**{"token": token} | changes), 400, "invalid", field)

    assert bytes(Host.objects.get().public_key) == b""


def test_a_body_that_is_no_json_is_refused():
    check_error(Client().post(URL, "{", content_type="application/json"), 400, "invalid", "body")


@pytest.mark.parametrize("says_its_length", [True, False])
def test_a_body_that_is_too_long_is_not_even_parsed(token, says_its_length):
    unknown = {} if says_its_length else {"CONTENT_LENGTH": ""}

    check_error(Client(**unknown).post(URL, {"token": "a" * 5000}, content_type="application/json"), 413, "too_large")


@pytest.mark.parametrize("length", ["abc", "1e3", "-"])
def test_a_length_that_is_no_number_is_refused(length):
    answer = Client().post(URL, "{}", content_type="application/json", headers={"Content-Length": length})

    check_error(answer, 400, "invalid", "Content-Length")


def test_other_methods_are_none():
    assert Client().get(URL).status_code == 405


def test_a_key_is_rotated_over_http(token):
    old, new = Candidate(), Candidate()
    old.join(token)

    answer = old.rotate("gpu-a01", new, timezone.now())

    assert json.loads(new.verified(answer.json()))["host"] == "gpu-a01"
    assert bytes(Host.objects.get().public_key) == new.public_key


@pytest.mark.parametrize("missing", ["at_ms", "signature"])
def test_a_rotation_without_proof_is_refused(token, missing):
    old = Candidate()
    old.join(token)

    check_error(old.rotate("gpu-a01", Candidate(), timezone.now(), **{missing: None}), 400, "invalid", "signature")


def test_a_rotation_by_a_stranger_is_refused(token):
    Candidate().join(token)

    check_error(Candidate().rotate("gpu-a01", Candidate(), timezone.now()), 403, "join_refused")


def test_a_host_whose_clock_is_off_hears_so_and_may_ask_as_often_as_it_likes(token):
    old, new = Candidate(), Candidate()
    old.join(token)
    for _ in range(throttle.FAILED_JOINS_PER_ADDRESS + 1):
        check_error(old.rotate("gpu-a01", new, timezone.now() - timedelta(minutes=10)), 409, "clock", "at_ms")

    assert old.rotate("gpu-a01", new, timezone.now()).status_code == 200


def test_too_many_refusals_close_the_door_for_their_address(token):
    here, there = Client(REMOTE_ADDR="198.51.100.7"), Client(REMOTE_ADDR="198.51.100.8")
    for _ in range(throttle.FAILED_JOINS_PER_ADDRESS):
        check_error(Candidate().join("swj_guess", here), 403, "join_refused")

    check_error(Candidate().join(token, here), 429, "too_many_tries")
    assert Candidate().join(token, there).status_code == 200


def test_a_closed_door_writes_nothing():
    for _ in range(throttle.FAILED_JOINS_PER_ADDRESS + 5):
        Candidate().join("swj_guess")

    assert JoinAttempt.objects.count() == Event.objects.get().count == throttle.FAILED_JOINS_PER_ADDRESS


def test_the_door_opens_when_the_first_refusal_is_fifteen_minutes_old():
    start = timezone.now()
    for minute in range(throttle.FAILED_JOINS_PER_ADDRESS):
        throttle.join_failed("192.0.2.7", start + timedelta(seconds=minute))

    assert throttle.join_wait("192.0.2.7", start + timedelta(minutes=1)) == timedelta(minutes=14)
    assert throttle.join_wait("192.0.2.7", start + throttle.WINDOW) is None


def test_joins_that_succeed_are_not_counted():
    for number in range(throttle.FAILED_JOINS_PER_ADDRESS + 1):
        token = add_host(f"gpu-a{number}", None, None, Actor("ada"), timezone.now())[1]
        assert Candidate(f"{number:032x}").join(token).status_code == 200
