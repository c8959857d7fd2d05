"""The host's task module as the agent loads it: only what passes the order desk reaches the runner."""

import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu.serialization import dumps, loads

from telemetry.message.envelope import seal_order
from telemetry.message.notices import NoticeKind
from tests.training.agents import CPU, HOST, SERVER_KEY, SLEEPS, SUCCEEDS, TINY, StandInAgent, interpreter, until
from training.host import tasks
from training.message.wire import CANCEL_TASK, START_TASK, JobOrder, pack, pack_cancel

FAR_MS = 9_999_999_999_999


@pytest.fixture
def agent(tmp_path):
    stand_in = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    tasks.attach(stand_in.context)
    return stand_in


def start(job: int) -> bytes:
    return pack(JobOrder(job, "ab", HOST, "gpt-train", TINY, CPU.uuid, FAR_MS, 60))


def sealed(task, body, key=SERVER_KEY, host=HOST) -> bytes:
    return seal_order(key, task, host, body, int(time.time() * 1000) + 60_000)


def deliver(task, payload, **delivery_info):
    """Hand a payload to the task as a worker does that took it from the broker."""
    content_type, encoding, body = dumps([payload], serializer="msgpack")
    task.push_request(delivery_info=delivery_info)
    try:
        task.run(*loads(body, content_type, encoding, accept={"application/x-msgpack"}))
    finally:
        task.pop_request()


def test_it_loads_neither_torch_nor_django():
    # kombu itself imports django.utils where Django is installed; settings and models are what must stay out.
    probe = "import sys, training.host.tasks; print({'torch', 'django.conf', 'django.db', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_tasks_have_the_names_that_the_server_sends():
    assert (tasks.start_job.name, tasks.cancel_job.name) == (START_TASK, CANCEL_TASK)


def test_the_agents_end_ends_the_jobs_and_is_told(tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    tasks.attach(agent.context)
    deliver(tasks.start_job, sealed(START_TASK, start(1)))
    agent.running(1)
    for end in agent.endings:
        end()
    assert agent.end_of(1).state == "lost"


def test_orders_of_the_server_reach_the_runner(agent):
    deliver(tasks.cancel_job, sealed(CANCEL_TASK, pack_cancel(2, "ab", HOST)))
    deliver(tasks.start_job, sealed(START_TASK, start(1)))
    assert agent.end_of(1).state == "done"
    until(lambda: agent.states(2) == ["cancelled"])


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(start(1), id="an order without a signature"),
        pytest.param(sealed(START_TASK, start(1), key=Ed25519PrivateKey.generate()), id="signed by another key"),
        pytest.param(sealed(START_TASK, start(1), host="node-2"), id="for another host"),
        pytest.param(sealed(CANCEL_TASK, start(1)), id="for another task"),
        pytest.param("text", id="no bytes"),
    ],
)
def test_nothing_else_starts_a_job(agent, payload):
    deliver(tasks.start_job, payload)
    deliver(tasks.start_job, sealed(START_TASK, start(2)))
    agent.end_of(2)
    assert agent.record(1) is None


def test_a_replayed_order_starts_nothing_and_the_server_is_told(agent):
    order = sealed(START_TASK, start(1))
    deliver(tasks.start_job, order)
    agent.end_of(1)
    deliver(tasks.start_job, order)
    assert [notice.kind for notice in agent.notices] == [NoticeKind.REPLAYED_ORDER]
    assert agent.states(1).count("done") == 1


def test_an_order_that_the_broker_hands_out_again_is_no_replay(agent):
    order = sealed(START_TASK, start(1))
    deliver(tasks.start_job, order)
    agent.end_of(1)
    deliver(tasks.start_job, order, redelivered=True)
    assert agent.notices == []
    assert agent.states(1).count("done") == 1


def test_an_order_that_has_expired_is_told_to_the_server_and_stands_in_the_log(agent, caplog):
    late = seal_order(SERVER_KEY, START_TASK, HOST, start(1), int(time.time() * 1000) - 5_000)
    deliver(tasks.start_job, late)
    assert [notice.kind for notice in agent.notices] == [NoticeKind.ORDER_REFUSED]
    assert "an order that expired 5 s ago" in "".join(
        record.message for record in caplog.records if record.levelname == "WARNING"
    )


def test_the_same_order_sealed_anew_is_answered_by_the_jobs_end(agent):
    """So the server asks again, whose broker lost a report."""
    deliver(tasks.start_job, sealed(START_TASK, start(1)))
    end = agent.end_of(1)
    deliver(tasks.start_job, sealed(START_TASK, start(1)))
    until(lambda: agent.reports_of(1).count(end) == 2)
