"""The host's task module as the agent loads it."""

import subprocess
import sys

from kombu.serialization import dumps, loads

from tests.training.agents import SUCCEEDS, StandInAgent, interpreter, until
from training.host import tasks
from training.wire import CANCEL_TASK, START_TASK, JobOrder, pack, pack_cancel


def test_it_loads_neither_torch_nor_django():
    # kombu itself imports django.utils where Django is installed; settings and models are what must stay out.
    probe = "import sys, training.host.tasks; print({'torch', 'django.conf', 'django.db', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_the_tasks_have_the_names_that_the_server_sends():
    assert (tasks.start_job.name, tasks.cancel_job.name) == (START_TASK, CANCEL_TASK)


def test_messages_reach_the_runner_as_the_bytes_that_were_sent(tmp_path):
    stand_in = StandInAgent(tmp_path, interpreter(tmp_path, SUCCEEDS))
    tasks.attach(stand_in.context)
    order = JobOrder(1, "ab", "node-1", "gpt-train", {}, "cpu-0001", 9_999_999_999_999, 60)
    for task, payload in ((tasks.cancel_job, pack_cancel(2, "ab", "node-1")), (tasks.start_job, pack(order))):
        content_type, encoding, body = dumps([payload], serializer="msgpack")
        task(*loads(body, content_type, encoding, accept={"application/x-msgpack"}))
    assert stand_in.end_of(1).state == "done"
    until(lambda: stand_in.states(2) == ["cancelled"])
