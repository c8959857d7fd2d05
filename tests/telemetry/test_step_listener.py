"""The socket on which training loops leave their steps: who may write to it, and what becomes of what they write."""

import os
import socket
import stat
import threading

import pytest

from telemetry.agent import steps
from telemetry.agent.steps import MAX_FRAME_BYTES, StepListener
from tests.process.traces import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "steps.sock"


@pytest.fixture
def listener(path):
    listener, received = StepListener(path), []
    listener.register(lambda frames, moment: received.extend(frames) or 0)
    listener.start()
    yield listener, received
    listener.stop()


def send(path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as loop:
        for each in datagrams:
            loop.sendto(each, str(path))


def test_datagrams_come_with_what_the_kernel_says_of_their_sender(listener, path):
    send(path, b"a step")
    wait_until(lambda: listener[1], 60, "the datagram")
    assert listener[1] == [(b"a step", os.getpid(), os.getuid(), os.getgid())]


NOBODY = 65_534


def forge(loop: socket.socket) -> bool:
    """Claim to be root's first process, as a user who is not root; True where the kernel refuses."""
    if os.getuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    try:
        loop.sendmsg([b"forged"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, steps._CREDENTIALS.pack(1, 0, 0))])
    except PermissionError:
        return loop.send(b"own") == 3
    return False


def test_nobody_can_claim_to_be_another_user(listener, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as loop:
        loop.connect(str(path))
        child = os.fork()
        if child == 0:
            is_refused = False
            try:
                is_refused = forge(loop)
            finally:
                os._exit(0 if is_refused else 1)
        assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: listener[1], 60, "the datagram")
    assert [(frame.raw, frame.pid, frame.uid) for frame in listener[1]] == [(b"own", child, os.getuid() or NOBODY)]


def test_any_user_may_write_and_only_the_agents_own_change_what_lies_there(listener, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_a_longer_datagram_than_any_step_is_counted_and_left_out(listener, path):
    send(path, bytes(MAX_FRAME_BYTES + 1), b"a step")
    wait_until(lambda: listener[1], 60, "the datagram")
    assert ([frame.raw for frame in listener[1]], listener[0].refused) == ([b"a step"], 1)


def test_what_a_handler_refuses_is_counted(path):
    listener = StepListener(path)
    listener.register(lambda frames, moment: len(frames))
    listener.start()
    send(path, b"one", b"two")
    wait_until(lambda: listener.refused == 2, 60, "both to be refused")
    listener.stop()


def test_a_handler_that_fails_does_not_end_the_listening(listener, path, caplog):
    def fail(frames, moment):
        raise ValueError

    listener[0].register(fail)
    send(path, b"one")
    wait_until(lambda: "1 step frames could not be handled" in caplog.text, 60, "the failure")
    send(path, b"two")
    wait_until(lambda: len(listener[1]) == 2, 60, "the next")


def test_what_came_before_the_end_is_handed_on(path):
    listener, received = StepListener(path), []
    listener.register(lambda frames, moment: received.extend(frames) or 0)
    listener.start()
    for number in range(5):
        send(path, b"%d" % number)
    listener.stop()
    assert [frame.raw for frame in received] == [b"0", b"1", b"2", b"3", b"4"]
    assert not any(thread.name == "steps" for thread in threading.enumerate())


def test_a_leftover_socket_of_a_killed_agent_is_replaced(tmp_path):
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(tmp_path / "steps.sock"))
    stale.close()

    listener = StepListener(tmp_path / "steps.sock")
    listener.start()
    listener.stop()

    assert not (tmp_path / "steps.sock").exists()
