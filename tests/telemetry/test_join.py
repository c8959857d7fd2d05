"""Joining and key rotation, the agent's side: what it sends, what it believes, and what a lost answer leaves behind."""

import json
import os
import threading
import time
from base64 import b64decode, b64encode
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from telemetry.agent import membership
from telemetry.agent.__main__ import main
from telemetry.agent.invalid import ConfigInvalid
from telemetry.agent.join import finish, join, machine_digest, rotate_key
from telemetry.agent.keys import JOINING_NAME, NEXT_NAME, HostKey
from telemetry.agent.private_file import alone
from telemetry.agent.server_call import CallFailed
from telemetry.message.envelope import fingerprint
from telemetry.message.wire import VERSION
from tests.process.traces import wait_until

SERVER = Ed25519PrivateKey.from_private_bytes(bytes(32))
SERVER_PUBLIC = SERVER.public_key().public_bytes_raw()
FINGERPRINT = fingerprint(SERVER_PUBLIC)


class StandInServer:
    """Answers joins; `change` alters an answer before it is signed, `spoil` after, `refusal` is (status, body, headers)."""

    def __init__(self):
        self.asked = []
        self.change, self.spoil, self.refusal = {}, {}, None
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stand_in.asked.append((self.path, body))
                status, answer, headers = stand_in.refusal or (200, json.dumps(stand_in.answer(body)), {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def answer(self, body):
        fields = {
            "host": "gpu-a01", "cluster": "c", "broker_url": "redis://:p@b/0", "wire_version": VERSION,
            "server_time_ms": int(time.time() * 1000), **self.change,
        }  # fmt: skip
        text = json.dumps(fields)
        signed = b"stepwatt join 1\0" + b64decode(body["public_key"]) + b"\0" + text.encode()
        answer = {"membership": text, "signature": b64encode(SERVER.sign(signed)).decode()}
        return answer | {"server_public_key": b64encode(SERVER_PUBLIC).decode()} | self.spoil

    def refuse(self, status, message, code="join_refused"):
        self.refusal = (status, json.dumps({"error": {"code": code, "message": message}}), {})

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server():
    server = StandInServer()
    yield server
    server.stop()


@pytest.fixture
def joined(server, tmp_path):
    join(tmp_path, server.url, "swj_t", FINGERPRINT)
    server.asked.clear()
    return server


def test_it_sends_its_public_key_and_a_digest_of_its_machine(server, tmp_path):
    join(tmp_path, f"{server.url}/", "swj_t", FINGERPRINT)

    ((path, body),) = server.asked
    assert (path, set(body)) == ("/api/v1/join", {"token", "public_key", "machine", "wire_version", "agent_version"})
    assert (body["token"], body["wire_version"]) == ("swj_t", VERSION)
    assert b64decode(body["public_key"]) == HostKey.load(tmp_path).public_bytes
    assert body["machine"] == machine_digest(tmp_path)


def test_the_machines_id_itself_does_not_leave_it(tmp_path):
    from telemetry.agent.backends.identity import machine_id

    assert machine_digest(tmp_path) != machine_id(tmp_path)
    assert len(machine_digest(tmp_path)) == 32


def test_it_becomes_what_the_server_says(server, tmp_path):
    join(tmp_path, server.url, "swj_t", FINGERPRINT)

    found = membership.load(tmp_path)
    assert (found.host, found.cluster, found.broker_url) == ("gpu-a01", "c", "redis://:p@b/0")
    assert (found.server_url, found.server_public_key) == (server.url, SERVER_PUBLIC)
    assert found.public_key == HostKey.load(tmp_path).public_bytes


def test_another_servers_key_is_not_believed(server, tmp_path):
    with pytest.raises(ConfigInvalid, match=r"expected SHA256:other: .*nothing was changed here"):
        join(tmp_path, server.url, "swj_t", "SHA256:other")
    assert not (tmp_path / "membership.json").exists()


SPOILT = {
    "another membership": {"membership": '{"host": "b", "broker_url": "redis://evil", "server_time_ms": 1}'},
    "no signature": {"signature": ""},
    "a signature over something else": {"signature": b64encode(SERVER.sign(b"x")).decode()},
    "no membership": {"membership": None},
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_answer_that_the_servers_key_did_not_sign_is_not_believed(server, tmp_path, spoil):
    server.spoil = spoil

    with pytest.raises(ConfigInvalid):
        join(tmp_path, server.url, "swj_t", FINGERPRINT)
    assert not (tmp_path / "membership.json").exists()


def test_the_servers_refusal_is_handed_on_in_its_words(server, tmp_path):
    server.refuse(403, "the token for gpu-a01 has expired; make a new one with add_host")

    with pytest.raises(CallFailed, match="the token for gpu-a01 has expired; make a new one with add_host"):
        join(tmp_path, server.url, "swj_t", FINGERPRINT)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "<h1>no</h1>", {}), "status 404; is this the address of a Stepwatt server"),
        ((200, "hello", {}), "no JSON object"),
        ((302, "", {"Location": "https://elsewhere/"}), "sends us to https://elsewhere/"),
    ],
)
def test_what_is_no_stepwatt_server_is_called_so(server, tmp_path, refusal, words):
    server.refusal = refusal

    with pytest.raises(CallFailed, match=words):
        join(tmp_path, server.url, "swj_t", FINGERPRINT)


@pytest.mark.parametrize(
    ("url", "words"),
    [("http://127.0.0.1:1", "was not reached .*refused"), ("stepwatt", "expected the server's address")],
)
def test_a_server_that_is_not_there_is_named(tmp_path, url, words):
    with pytest.raises(CallFailed, match=words) as failed:
        join(tmp_path, url, "swj_t", FINGERPRINT)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(("off_ms", "words"), [(-90_000, "ahead of"), (90_000, "behind"), (30_000, None)])
def test_a_clock_that_is_more_than_a_minute_off_is_a_warning(server, tmp_path, off_ms, words):
    server.change = {"server_time_ms": int(time.time() * 1000) + off_ms}
    warnings = []

    join(tmp_path, server.url, "swj_t", FINGERPRINT, warn=warnings.append)

    assert [words in warning for warning in warnings] == ([True] if words else [])


def test_a_join_whose_answer_was_lost_is_repeated_with_the_same_key(server, tmp_path):
    server.refusal = (502, "", {})
    with pytest.raises(CallFailed):
        join(tmp_path, server.url, "swj_t", FINGERPRINT)
    server.refusal = None
    join(tmp_path, server.url, "swj_t", FINGERPRINT)

    first, second = (body["public_key"] for _, body in server.asked)
    assert first == second
    assert not (tmp_path / JOINING_NAME).exists()


def test_a_host_that_joins_again_has_a_new_key(joined, tmp_path):
    old = HostKey.load(tmp_path).public_bytes

    join(tmp_path, joined.url, "swj_u", FINGERPRINT)

    assert HostKey.load(tmp_path).public_bytes != old


def test_a_failed_join_leaves_the_membership_and_the_key_as_they_were(joined, tmp_path):
    before = membership.load(tmp_path)
    joined.refuse(403, "used")

    with pytest.raises(CallFailed):
        join(tmp_path, joined.url, "swj_u", FINGERPRINT)
    assert membership.load(tmp_path) == before
    assert HostKey.load(tmp_path).public_bytes == before.public_key


def test_it_does_not_join_while_its_agent_runs(server, tmp_path):
    with alone(tmp_path / "lock"), pytest.raises(ConfigInvalid, match="stop it, join, and start it again"):
        join(tmp_path, server.url, "swj_t", FINGERPRINT)
    assert server.asked == []


def test_a_rotation_is_signed_by_the_old_key(joined, tmp_path):
    old = HostKey.load(tmp_path)

    rotate_key(tmp_path)

    ((_, body),) = joined.asked
    assert set(body) == {"host", "public_key", "machine", "at_ms", "signature"}
    new = b64decode(body["public_key"])
    signed = b"stepwatt rotate 1\0gpu-a01\0" + new + b"\0" + str(body["at_ms"]).encode()
    Ed25519PublicKey.from_public_bytes(old.public_bytes).verify(b64decode(body["signature"]), signed)
    assert HostKey.load(tmp_path).public_bytes == new != old.public_bytes


def test_the_old_key_stays_until_the_server_has_answered(joined, tmp_path):
    old = HostKey.load(tmp_path).public_bytes
    joined.refusal = (502, "", {})

    with pytest.raises(CallFailed):
        rotate_key(tmp_path)
    assert HostKey.load(tmp_path).public_bytes == old


def test_a_rotation_whose_answer_was_lost_asks_again_with_the_same_two_keys(joined, tmp_path):
    joined.refusal = (502, "", {})
    with pytest.raises(CallFailed):
        rotate_key(tmp_path)
    joined.refusal = None
    rotate_key(tmp_path)

    first, second = (body["public_key"] for _, body in joined.asked)
    assert first == second == b64encode(HostKey.load(tmp_path).public_bytes).decode()


def test_a_rotation_that_was_broken_off_is_finished_at_the_next_start(joined, tmp_path):
    new = HostKey.load_or_create(tmp_path, NEXT_NAME)

    finish(tmp_path)

    assert HostKey.load(tmp_path).public_bytes == new.public_bytes == membership.load(tmp_path).public_key
    assert not (tmp_path / NEXT_NAME).exists()


def test_a_start_without_a_broken_rotation_asks_the_server_nothing(joined, tmp_path):
    finish(tmp_path)

    assert joined.asked == []


def test_a_start_goes_on_with_the_old_key_where_the_server_refuses(joined, tmp_path):
    old = HostKey.load(tmp_path).public_bytes
    HostKey.load_or_create(tmp_path, NEXT_NAME)
    joined.refuse(403, "not signed by its present key")

    finish(tmp_path)

    assert HostKey.load(tmp_path).public_bytes == old


@pytest.fixture
def hurried(monkeypatch):
    """A running agent looks for a waiting key twenty times a second; where it was refused, each hour."""
    monkeypatch.setattr("telemetry.agent.join.RETRY_SECONDS", 0.05)


@pytest.mark.parametrize("answer", [(502, "x", "x"), (429, "x", "too_many_tries"), (409, "a clock 6 min off", "clock")])
@pytest.mark.usefixtures("hurried")
def test_a_running_agent_finishes_a_rotation_once_the_server_lets_it(joined, tmp_path, answer):
    new = HostKey.load_or_create(tmp_path, NEXT_NAME)
    joined.refuse(*answer)
    finish(tmp_path)
    wait_until(lambda: len(joined.asked) >= 3, 60)
    joined.refusal = None

    wait_until(lambda: HostKey.load(tmp_path).public_bytes == new.public_bytes, 60)


@pytest.mark.usefixtures("hurried")
def test_a_running_agent_finishes_a_rotation_whose_answer_was_lost_meanwhile(joined, tmp_path):
    finish(tmp_path)  # the agent starts, and nothing waits
    joined.refusal = (502, "", {})
    with pytest.raises(CallFailed):
        rotate_key(tmp_path)
    new = HostKey.load(tmp_path, NEXT_NAME)
    joined.refusal = None

    wait_until(lambda: HostKey.load(tmp_path).public_bytes == new.public_bytes, 60)


@pytest.mark.usefixtures("hurried")
def test_a_refusal_is_not_asked_for_again_each_minute_and_not_for_ever_left_at(joined, tmp_path, monkeypatch):
    monkeypatch.setattr("telemetry.agent.join.REFUSED_SECONDS", 0.5)
    new = HostKey.load_or_create(tmp_path, NEXT_NAME)
    joined.refuse(403, "not signed by its present key")
    began = time.monotonic()
    finish(tmp_path)
    time.sleep(0.3)
    assert 1 <= len(joined.asked) <= 1 + (time.monotonic() - began) / 0.5
    joined.refusal = None

    wait_until(lambda: HostKey.load(tmp_path).public_bytes == new.public_bytes, 60)


def test_a_rotation_whose_last_step_a_crash_cut_off_is_finished_without_another_rotation(joined, tmp_path):
    """The membership was written, and the key not yet moved."""
    new = HostKey.load_or_create(tmp_path, NEXT_NAME)
    membership.save(tmp_path, replace(membership.load(tmp_path), public_key=new.public_bytes))

    finish(tmp_path)

    assert HostKey.load(tmp_path).public_bytes == new.public_bytes
    assert joined.asked == []


@pytest.mark.usefixtures("hurried")
def test_a_running_agent_that_finds_such_a_crashs_key_does_not_rotate_again(joined, tmp_path):
    finish(tmp_path)
    with alone(tmp_path / "keys.lock"):
        new = HostKey.load_or_create(tmp_path, NEXT_NAME)
        membership.save(tmp_path, replace(membership.load(tmp_path), public_key=new.public_bytes))
    wait_until(lambda: not (tmp_path / NEXT_NAME).exists(), 60)
    time.sleep(0.2)

    assert HostKey.load(tmp_path).public_bytes == new.public_bytes
    assert joined.asked == []


def test_a_join_voids_a_rotation_that_was_broken_off(joined, tmp_path):
    HostKey.load_or_create(tmp_path, NEXT_NAME)

    join(tmp_path, joined.url, "swj_u", FINGERPRINT)

    assert not (tmp_path / NEXT_NAME).exists()


def test_a_refused_join_leaves_the_key_that_waits(joined, tmp_path):
    waiting = HostKey.load_or_create(tmp_path, NEXT_NAME).public_bytes
    joined.refuse(403, "used")

    with pytest.raises(CallFailed):
        join(tmp_path, joined.url, "swj_u", FINGERPRINT)
    assert HostKey.load(tmp_path, NEXT_NAME).public_bytes == waiting


def test_another_user_does_not_write_a_key_that_the_agent_could_not_read(joined, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)

    with pytest.raises(ConfigInvalid, match="as that user"):
        rotate_key(tmp_path)
    assert joined.asked == []


def test_the_command_says_that_a_running_agent_goes_on_asking(joined, tmp_path, monkeypatch):
    monkeypatch.setenv("STEPWATT_DATA_DIR", str(tmp_path))
    (tmp_path / "agent").symlink_to(tmp_path)
    joined.refusal = (502, "", {})

    with pytest.raises(SystemExit, match="the old key is in use, and a running agent asks again by itself"):
        main(["rotate-key"])


def test_another_servers_answer_to_a_rotation_is_not_believed(joined, tmp_path):
    joined.spoil = {"server_public_key": b64encode(bytes(32)).decode()}
    old = HostKey.load(tmp_path).public_bytes

    with pytest.raises(ConfigInvalid, match="another key than when this host joined"):
        rotate_key(tmp_path)
    assert HostKey.load(tmp_path).public_bytes == old


def test_the_servers_own_agent_says_how_its_key_is_renewed(tmp_path):
    membership.enrol_here(tmp_path, "here", "redis://127.0.0.1/0", SERVER_PUBLIC)

    with pytest.raises(ConfigInvalid, match=r"remove .*host\.key"):
        rotate_key(tmp_path)
