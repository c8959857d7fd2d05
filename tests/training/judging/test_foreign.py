"""Programs of others on a job's device, from the stubbed driver's list over a batch to the verdict."""

import re
import time

import pynvml
import pytest

from telemetry.agent.backends.nvml.processes import SmShares, read_processes
from telemetry.agent.backends.ownership import Owner
from telemetry.message.wire import DeviceProcess
from telemetry.receiving.ingest import ingest
from tests.telemetry.batches import GPU, payload
from tests.training.judging.judged import NOW, finished, judged, with_history
from tests.training.pages import text
from tests.training.reference_jobs import ready_host
from training.judging import causes, foreign
from training.judging.judge import judge
from training.models import Outcome, RunRank, Verdict

pytestmark = pytest.mark.django_db
JOB, OTHER = 4242, 5151
END_MS = int(NOW.timestamp() * 1000)
START_MS = END_MS - 10_000
WINDOW = {"window_start_ms": START_MS, "window_end_ms": END_MS}


@pytest.fixture
def driver(nvml_stub):
    pynvml.nvmlInit()
    yield nvml_stub
    nvml_stub.clear()
    pynvml.nvmlShutdown()


def listed(names: dict[int, str]) -> list[DeviceProcess]:
    """Return the processes of the driver's first device; who is whose /proc would tell."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    return read_processes(handle, SmShares(time.time), lambda pid: Owner(user="bob", command=names.get(pid, "")))


def told(host, processes: list[DeviceProcess], at_ms: int) -> None:
    """Have the host's agent tell of who used its device."""
    kept = {GPU.uuid: processes}
    body = payload(
        [at_ms - 1000, at_ms], {"power_draw_watts": [1.0, 1.0]}, host=host.name, sequence=at_ms, processes=kept
    )
    ingest(host, body, NOW)


@pytest.fixture
def host():
    host = ready_host("gpu-a01")
    host.devices.all().delete()
    told(host, [], START_MS - 60_000)
    host.devices.update(model="A board")
    return with_history(host)


def judged_beside(host, *, own_pid: int | None) -> Verdict:
    """Judge a job of whose process the steps have told this number."""
    job = finished(host, losses=[4.0, 3.0], result=WINDOW)
    told_of = {"rank": 0, "host": host, "first_ms": 0, "last_ms": 1, "n_steps": 2, "n_frames": 2, "newest_sequence": 1}
    RunRank.objects.create(run=job.run, pid=own_pid, **told_of)
    return judge(job, NOW)


def test_another_program_in_the_window_contaminates_the_result_with_who_and_how_much(driver, host, viewer):
    driver.run_process(0, JOB, used_bytes=2**30, percent=90)
    driver.run_process(0, OTHER, used_bytes=2**31, percent=35)
    told(host, listed({OTHER: "python notebook.py"}), START_MS + 5_000)

    verdict = judged_beside(host, own_pid=JOB)

    assert verdict.outcome == Outcome.CONTAMINATED
    assert not verdict.is_clean
    (marker,) = verdict.markers
    assert marker.startswith("others used the device: python notebook.py 5151 (bob), up to 35")
    assert re.search(r"seen \d{4}-\d\d-\d\d 11:59:55 UTC to \d{4}-\d\d-\d\d 11:59:55 UTC", marker)
    assert "python notebook.py 5151" in text(viewer.get(f"/reference/{verdict.job_id}/verdict/"))


def test_the_jobs_own_process_is_nobody_elses(driver, host):
    driver.run_process(0, JOB, percent=90)
    told(host, listed({}), START_MS + 5_000)

    assert judged_beside(host, own_pid=JOB).outcome == Outcome.PASS


@pytest.mark.parametrize(
    ("used_bytes", "percent", "kind", "outcome"),
    [
        (300 * 2**20, 3, "G", Outcome.PASS),
        (300 * 2**20, 30, "G", Outcome.CONTAMINATED),
        (3 * 2**30, 0, "G", Outcome.CONTAMINATED),
        (300 * 2**20, 3, "C+G", Outcome.CONTAMINATED),
    ],
)
def test_a_display_server_contaminates_a_result_only_where_it_works_or_has_much(
    driver, host, used_bytes, percent, kind, outcome
):
    driver.run_process(0, JOB, percent=60)
    driver.run_process(0, OTHER, used_bytes=used_bytes, percent=percent, kind=kind)
    told(host, listed({OTHER: "Xorg :0"}), START_MS + 5_000)

    assert judged_beside(host, own_pid=JOB).outcome == outcome


def test_one_that_drew_and_then_computed_contaminates_the_result(driver, host):
    for at_ms, kind in ((START_MS + 2_000, "G"), (START_MS + 8_000, "C+G")):
        driver.clear()
        driver.run_process(0, OTHER, used_bytes=2**28, percent=1, kind=kind)
        told(host, listed({OTHER: "browser"}), at_ms)

    assert judged_beside(host, own_pid=JOB).outcome == Outcome.CONTAMINATED


def test_without_its_number_the_job_is_known_by_its_command(driver, host):
    driver.run_process(0, JOB, percent=90)
    told(host, listed({JOB: "python -P /opt/training/reference/start.py --parent 7"}), START_MS + 5_000)

    assert judged_beside(host, own_pid=None).outcome == Outcome.PASS


def hidden() -> list[DeviceProcess]:
    """Return the processes as an agent in another PID namespace is told of them: its /proc holds none."""
    return read_processes(pynvml.nvmlDeviceGetHandleByIndex(0), SmShares(time.time), lambda pid: Owner())


@pytest.mark.parametrize("number", [0, JOB + 1])
def test_where_no_process_has_a_name_one_of_them_is_the_job(driver, host, number):
    driver.run_process(0, number, used_bytes=2**30)
    told(host, hidden(), START_MS + 5_000)

    assert judged_beside(host, own_pid=JOB).outcome == Outcome.PASS


@pytest.mark.parametrize(
    ("number", "words"), [(0, "a process of another PID namespace, "), (OTHER, "which the agent's /proc does not hold")]
)
def test_another_beside_it_contaminates_the_result_although_it_has_no_name(driver, host, number, words):
    driver.run_process(0, 0, used_bytes=2**32)
    driver.run_process(0, number, used_bytes=2**30)
    told(host, hidden(), START_MS + 5_000)

    verdict = judged_beside(host, own_pid=JOB)

    assert verdict.outcome == Outcome.CONTAMINATED
    assert words in verdict.markers[0]
    assert "GiB" in verdict.markers[0]


@pytest.mark.parametrize("at_ms", [START_MS - 5_000, END_MS + 5_000])
def test_a_program_before_or_after_the_window_is_no_mark(driver, host, at_ms):
    driver.run_process(0, OTHER)
    told(host, listed({OTHER: "python notebook.py"}), at_ms)

    assert judged_beside(host, own_pid=JOB).outcome == Outcome.PASS


def test_one_program_seen_twice_is_named_once_with_its_greatest_share(driver, host):
    for at_ms, percent in ((START_MS + 2_000, 20), (START_MS + 8_000, 60)):
        driver.clear()
        driver.run_process(0, OTHER, percent=percent)
        told(host, listed({}), at_ms)

    (found,) = foreign.on_device(judged(host, result=WINDOW).job)

    assert (found.process.pid, found.sm_ratio, found.last_ms - found.first_ms) == (OTHER, 0.6, 6_000)


@pytest.mark.parametrize(("at_ms", "is_unseen"), [(START_MS + 5_000, False), (END_MS + 5_000, True)])
def test_the_cause_of_a_slow_run_knows_whether_anybody_looked_for_others(driver, host, at_ms, is_unseen):
    driver.run_process(0, JOB, percent=90)
    told(host, listed({}), at_ms)
    verdict = judged_beside(host, own_pid=JOB)

    found = causes.of_runs(verdict, [verdict.job])

    assert ("other programs on the device" in found["unseen"]) is is_unseen
    assert "time spent waiting for data" not in found["unseen"]
