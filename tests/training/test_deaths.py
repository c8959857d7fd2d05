"""Every way in which a job can die, by real processes: what its page then says, within a minute of it."""

import os
import shlex
import signal
import sys
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import pytest

from tests.training.agents import HOST, LAUNCH, SLEEPS, STUBBORN, StandInAgent, interpreter
from tests.training.pages import text
from tests.training.reference_jobs import existing_job, ready_host
from training.host import endings
from training.host.records import Record, Records
from training.host.reports import now_ms
from training.jobs.ingest import ingest_report
from training.jobs.watch import LOST_AFTER, watch
from training.message.wire import JobReport, pack
from training.models import JobState, ReferenceJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("outbox")]
ROOT = Path(__file__).parents[2]
SECONDS = 60
PATIENCE = 300  # where torch must be loaded first, on a machine on which that alone takes a minute
CUDA_WITHOUT_MEMORY = """
import sys, torch
from training.reference.training import Training
def step(self):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.11 GiB")
Training.step = step
from training.reference.__main__ import main
sys.exit(main())
"""


@pytest.fixture
def job() -> ReferenceJob:
    return existing_job(ready_host(HOST), JobState.RUNNING, pk=1, launch=LAUNCH, heard_at=datetime.now(UTC))


def shown(viewer, job: ReferenceJob, end: JobReport) -> str:
    """Return what the job's page says once the server has the report of its end."""
    assert ingest_report(job.host, pack(end), datetime.now(UTC))
    return unescape(text(viewer.get(f"/reference/{job.pk}/")))


def python(directory: Path, code: str, before: str = "") -> str:
    """Return a jobs' interpreter that runs the code, with a job's own arguments."""
    script = directory / "program.py"
    script.write_text(code)
    run = f"exec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "
    return interpreter(directory, f'{before}\nshift 1; export PYTHONPATH={shlex.quote(str(ROOT))}; {run}"$@"')


def test_torch_is_missing(viewer, job, tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, f'exec {shlex.quote(sys.executable)} -S "$@"'))
    agent.order(1)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "failed" in page
    assert "torch is not installed for" in page


@pytest.mark.parametrize(
    ("torch", "words"),
    [
        (
            "raise OSError('libcublas.so.12: cannot open shared object file')",
            "cannot be imported (OSError: libcublas.so.12: cannot open shared object file)",
        ),
        ("import typing_extensions", "cannot be imported (ModuleNotFoundError: No module named 'typing_extensions')"),
        ("__version__ = '1.13.1+cu117'", "may be too old: the reference jobs are made for 2.6 and newer"),
    ],
    ids=["without its libraries", "without what it needs", "old"],
)
def test_torch_is_broken_or_too_old(viewer, job, tmp_path, torch, words):
    (tmp_path / "torch.py").write_text(torch)
    path = f"export PYTHONPATH={shlex.quote(str(tmp_path))}"
    agent = StandInAgent(tmp_path, interpreter(tmp_path, f'{path}; exec {shlex.quote(sys.executable)} -S "$@"'))
    agent.order(1)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "failed" in page
    assert words in page


def test_the_python_of_its_jobs_is_too_old(viewer, job, tmp_path):
    old = "import sys, runpy; sys.version_info = (3, 10, 12, 'final', 0); runpy.run_path(sys.argv[1], run_name='__main__')"
    agent = StandInAgent(tmp_path, interpreter(tmp_path, f'exec {shlex.quote(sys.executable)} -c "{old}" "$@"'))
    agent.order(1)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "failed" in page
    assert f"{sys.executable} is Python 3.10.12: reference jobs need 3.11 or newer" in page


def test_memory_runs_out_at_a_limit_of_the_process(viewer, job, tmp_path):
    limited = f'ulimit -v 1500000; exec {shlex.quote(sys.executable)} "$@"'
    agent = StandInAgent(tmp_path, interpreter(tmp_path, limited))
    agent.order(1, workload="conv1d-train", params={"batch_size": 4096})

    page = shown(viewer, job, agent.end_of(1, PATIENCE))

    assert "failed" in page
    assert "out of memory: " in page
    assert "a smaller batch_size needs less" in page


def test_memory_runs_out_on_an_accelerator(viewer, job, tmp_path):
    agent = StandInAgent(tmp_path, python(tmp_path, CUDA_WITHOUT_MEMORY))
    agent.order(1)

    page = shown(viewer, job, agent.end_of(1, PATIENCE))

    assert "failed" in page
    assert "out of memory: CUDA out of memory. Tried to allocate 20.00 GiB" in page


@pytest.mark.parametrize(
    ("kills", "words"),
    [(0, "not by the kernel's out-of-memory killer"), (1, "out of memory: the job's process was killed by signal 9")],
)
def test_its_process_is_killed_or_the_kernel_takes_its_memory_back(viewer, job, tmp_path, monkeypatch, kills, words):
    counted = iter([7, 7 + kills])  # the kernel's count, when the job begins and when it has ended
    monkeypatch.setattr(endings, "oom_kills", lambda: next(counted))
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    os.kill(agent.running(1).pid, signal.SIGKILL)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "failed" in page
    assert words in page


def test_the_kernel_tells_how_often_it_took_memory_back(tmp_path):
    counts = tmp_path / "vmstat"
    counts.write_text("pgfault 5\noom_kill 3\n")

    assert endings.oom_kills(counts) == 3
    assert endings.oom_kills(tmp_path / "none") is None
    assert "often the kernel's" in endings.killed_by(9, None, None)


def test_it_takes_longer_than_its_limit(viewer, job, tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, STUBBORN))
    agent.order(1, time_limit_seconds=1)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "failed" in page
    assert "took longer than its limit of 1 s" in page


def test_it_is_cancelled_twice(viewer, operator, job, tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    agent.running(1)
    for _ in range(2):
        assert operator.post(f"/reference/{job.pk}/cancel/").status_code == 302
        agent.cancel(1)

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "cancelled while it ran" in page
    assert operator.post(f"/api/v1/reference/jobs/{job.pk}/cancel").status_code == 409


@pytest.mark.parametrize(
    ("boot_id", "words"),
    [
        (endings.boot_id(), "the agent was stopped or killed while the job ran"),
        ("an earlier one", "the host was started anew"),
    ],
)
def test_its_agent_is_killed_or_its_host_started_anew(viewer, job, tmp_path, boot_id, words):
    Records(tmp_path / "jobs").claim(Record(1, LAUNCH, "running", now_ms(), boot_id=boot_id))

    page = shown(viewer, job, StandInAgent(tmp_path).end_of(1, SECONDS))

    assert "lost" in page
    assert words in page


def test_its_agent_is_stopped(viewer, job, tmp_path):
    agent = StandInAgent(tmp_path, interpreter(tmp_path, SLEEPS))
    agent.order(1)
    agent.running(1)
    agent.runner.stop()

    page = shown(viewer, job, agent.end_of(1, SECONDS))

    assert "lost" in page
    assert "the agent was stopped while the job ran, and ended it" in page


def test_its_agent_is_heard_of_no_more(viewer, job):
    gone = job.heard_at + timedelta(seconds=SECONDS)
    assert timedelta(seconds=SECONDS) > LOST_AFTER

    watch(gone, gone - timedelta(hours=1))

    page = text(viewer.get(f"/reference/{job.pk}/"))
    assert "lost" in page
    assert f"the agent on {HOST} has not spoken of this job since" in page


def test_the_server_is_away_when_it_ends(viewer, job, tmp_path):
    """The agent keeps the report of the end until the broker has it, and a server that starts is in no haste to say lost."""
    agent = StandInAgent(tmp_path, interpreter(tmp_path, "exit 7"), has_broker=False)
    agent.order(1)
    agent.end_of(1, SECONDS)
    back = datetime.now(UTC) + timedelta(seconds=SECONDS)
    watch(back, up_since=back - timedelta(seconds=1))
    job.refresh_from_db()
    assert job.state == JobState.RUNNING

    page = shown(viewer, job, StandInAgent(tmp_path).end_of(1, SECONDS))

    assert "failed" in page
    assert "exit status 7 and no result" in page
