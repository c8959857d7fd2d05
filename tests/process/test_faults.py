"""What dies comes back, nothing is counted twice, and a job's state is true. On the whole product, really killed."""

import signal
import time
from collections.abc import Iterator
from datetime import datetime

import httpx
import psutil
import pytest

from tests.process.traces import wait_until
from tests.stack import Stack, command_of, start_stack

RECOVERY_SECONDS = 240


@pytest.fixture(scope="module")
def stack(tmp_path_factory) -> Iterator[Stack]:
    with start_stack(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="module")
def client(stack) -> Iterator[httpx.Client]:
    client = stack.signed_in()
    # The host is known from the start on, before it tells anything.
    wait_until(lambda: host(client)["last_seen_at"], RECOVERY_SECONDS, "the first sample")
    yield client
    client.close()


def host(client: httpx.Client) -> dict:
    return client.get("/api/v1/hosts").json()["items"][0]


def newest_sample(client: httpx.Client) -> datetime:
    return datetime.fromisoformat(host(client)["last_seen_at"])


def wait_for_new_samples(client: httpx.Client) -> None:
    before = time.time()
    wait_until(lambda: newest_sample(client).timestamp() > before, RECOVERY_SECONDS, "a new sample")


def launch(client: httpx.Client, **params: object) -> int:
    order = {"workload": "gpt-train", "hosts": [host(client)["name"]], "params": params}
    answer = client.post("/api/v1/reference/jobs", json=order)
    assert answer.status_code == 201, answer.text
    return answer.json()["items"][0]["id"]


def job(client: httpx.Client, job_id: int) -> dict:
    return client.get(f"/api/v1/reference/jobs/{job_id}").json()


def wait_for_state(client: httpx.Client, job_id: int, *states: str, within_seconds: float = RECOVERY_SECONDS) -> dict:
    wait_until(lambda: job(client, job_id)["state"] in states, within_seconds, f"state {states} of the job")
    return job(client, job_id)


def test_telemetry_goes_on_after_the_broker_was_killed(stack, client):
    stack.child("valkey-server").kill()

    wait_for_new_samples(client)


def test_telemetry_goes_on_after_the_ingest_was_killed(stack, client):
    stack.child("ingest@").kill()

    wait_for_new_samples(client)


def test_a_job_survives_a_restart_of_the_web_server_and_the_workers(stack, client):
    job_id = launch(client, steps=40)
    wait_for_state(client, job_id, "running", "done")

    asked = [stack.child(words) for words in ("uvicorn", "ingest@", "worker@")]
    for process in asked:
        process.send_signal(signal.SIGTERM)
    psutil.wait_procs(asked, timeout=RECOVERY_SECONDS)
    wait_until(lambda: is_alive(client), RECOVERY_SECONDS, "the web server's answer")

    assert wait_for_state(client, job_id, "done", "failed", "lost", within_seconds=RECOVERY_SECONDS)["state"] == "done"


def is_alive(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_job_whose_agent_was_killed_is_lost_and_its_process_gone(stack, client):
    job_id = launch(client, steps=10_000)
    wait_for_state(client, job_id, "running")
    torch = stack.child("training/reference/start.py")

    stack.child("telemetry.agent").kill()

    psutil.wait_procs([torch], timeout=RECOVERY_SECONDS)
    assert not torch.is_running()
    ended = wait_for_state(client, job_id, "lost", "failed", "done", within_seconds=RECOVERY_SECONDS)
    assert ended["state"] == "lost"
    assert "agent" in ended["reason"]
    wait_for_new_samples(client)


def test_a_job_whose_agent_was_stopped_is_told_of_by_that_agent(stack, client):
    job_id = launch(client, steps=10_000)
    wait_for_state(client, job_id, "running")
    torch = stack.child("training/reference/start.py")

    stack.child("telemetry.agent").terminate()

    ended = wait_for_state(client, job_id, "lost", "failed", "done", within_seconds=RECOVERY_SECONDS)
    assert (ended["state"], ended["reason"]) == ("lost", "the agent was stopped while the job ran, and ended it")
    assert not torch.is_running()
    wait_for_new_samples(client)


def test_a_job_whose_process_was_killed_failed_with_its_reason(stack, client):
    job_id = launch(client, steps=10_000)
    wait_for_state(client, job_id, "running")

    stack.child("training/reference/start.py").kill()

    ended = wait_for_state(client, job_id, "lost", "failed", "done", within_seconds=RECOVERY_SECONDS)
    assert ended["state"] == "failed"
    assert "SIGKILL" in ended["reason"]


def test_a_cancelled_job_is_gone(stack, client):
    job_id = launch(client, steps=10_000)
    wait_for_state(client, job_id, "running")
    torch = stack.child("training/reference/start.py")

    assert client.post(f"/api/v1/reference/jobs/{job_id}/cancel").status_code == 200

    _, alive = psutil.wait_procs([torch], timeout=RECOVERY_SECONDS)
    assert not alive
    assert wait_for_state(client, job_id, "cancelled")["state"] == "cancelled"


def test_no_process_but_the_job_itself_maps_torch(stack, client):
    job_id = launch(client, steps=10_000)
    wait_until(lambda: job(client, job_id)["step"] > 0, RECOVERY_SECONDS, "the job's first step")

    mapping = {command_of(p) for p in psutil.Process(stack.pid).children(recursive=True) if maps_torch(p)}

    client.post(f"/api/v1/reference/jobs/{job_id}/cancel")
    assert {"training/reference/start.py" in command for command in mapping} == {True}
    wait_for_state(client, job_id, "cancelled")


def maps_torch(process: psutil.Process) -> bool:
    try:
        return any("libtorch" in mapped.path for mapped in process.memory_maps())
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return False


def test_no_sample_is_counted_twice(stack, client):
    """After all these kills, and with every batch so far handed out once more by the real broker."""
    again = stack.manage("shell", "--no-imports", "-c", SEND_ALL_AGAIN)
    assert again.returncode == 0, again.stderr
    wait_for_new_samples(client)  # the queue is first come, first served: what was sent again is ingested by now

    counted = stack.manage("shell", "--no-imports", "-c", COUNT_REPEATED)

    assert counted.stdout.strip() == "0", counted.stdout + counted.stderr


SEND_ALL_AGAIN = """
from celery import current_app
from django.conf import settings
from fleet.models import Host
from telemetry.agent.keys import Seal
from telemetry.models import StoredBatch
seal = Seal(settings.STEPWATT_DATA_DIR / "agent", Host.objects.get().name)
bodies = [bytes(body) for body in StoredBatch.objects.values_list("body", flat=True)]
assert len(bodies) > 5
for body in bodies:
    current_app.send_task("telemetry.ingest_batch", [seal("telemetry.ingest_batch", body)], queue="telemetry")
"""
COUNT_REPEATED = """
from fleet.models import Device
from telemetry.store import samples
device = Device.objects.get(kind="cpu")
times = samples.of_device(device, "gpu_utilization_ratio", 0, 2**53).times_ms.tolist()
assert len(times) > 5
print(len(times) - len(set(times)))
"""
