"""What the agent's log says of a server that takes and does not answer."""

import logging

import pytest

from telemetry.agent.unheard import UNHEARD_SECONDS
from tests.telemetry.spooling import Clock, opened_in
from tests.telemetry.test_outbox import Box


@pytest.fixture
def box(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="telemetry.agent.unheard")
    with opened_in(tmp_path, Clock()) as opened:
        yield Box(opened())


def sent_for(box, seconds):
    for _ in range(round(seconds / 5)):
        box.make()
        box.send(5)


def test_a_server_that_acknowledges_nothing_is_told_of_once_and_so_is_that_it_does_again(box, caplog):
    sent_for(box, UNHEARD_SECONDS - 10)
    assert caplog.messages == []

    sent_for(box, UNHEARD_SECONDS)
    [said] = caplog.messages
    assert "for 10 min the server has acknowledged nothing" in said
    assert "removed, or joined anew" in said

    box.acknowledge((0, 0))
    sent_for(box, UNHEARD_SECONDS - 10)
    assert caplog.messages[1:] == ["the server acknowledges again"]


def test_while_the_broker_is_away_nobody_is_waited_for(box, caplog):
    sent_for(box, 60)
    box.outbox.disconnected()
    box.now += 10 * UNHEARD_SECONDS
    box.outbox.connected()
    sent_for(box, UNHEARD_SECONDS - 10)

    assert caplog.messages == []
