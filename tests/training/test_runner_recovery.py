"""What becomes of jobs when their agent is stopped or killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.training.agents import HOST, LAUNCH, SUCCEEDS, StandInAgent, interpreter, is_alive, until
from training.host.process import started_ticks
from training.host.records import KEEP_ENDED_MS, Record, Records

ROOT = Path(__file__).parents[2]
AGENT_WITH_A_LONG_JOB = """
import sys, time
import time
from pathlib import Path
from tests.training.agents import StandInAgent
agent = StandInAgent(Path(sys.argv[1]))
agent.order(1, params={"steps": 10_000, "batch_size": 1})
time.sleep(300)
"""


def maps_torch(pid: int) -> bool:
    return any("libtorch" in mapped.path for mapped in psutil.Process(pid).memory_maps())


def test_a_job_dies_with_its_agent_and_is_reported_lost_by_the_next_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.Popen([sys.executable, "-c", AGENT_WITH_A_LONG_JOB, str(tmp_path)], env=environment)
    records = Records(tmp_path / "jobs")
    until(lambda: (records.get(1) or Record(1, "", "", 0)).pid)
    pid = records.get(1).pid
    until(lambda: maps_torch(pid), seconds=60)  # it is past its first lines, which tie it to the agent
    killed.kill()
    killed.wait()
    until(lambda: not is_alive(pid))
    agent = StandInAgent(tmp_path)
    end = agent.end_of(1)
    assert (end.state, end.reason) == ("lost", "the agent was stopped or killed while the job ran")


def test_a_lost_jobs_report_is_newer_than_any_of_the_killed_agent(tmp_path):
    Records(tmp_path / "jobs").claim(Record(1, LAUNCH, "running", 0, sequence=0))
    assert StandInAgent(tmp_path).end_of(1).sequence > 1_000_000


def test_a_process_that_outlived_its_agent_is_ended_first(tmp_path):
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    Records(tmp_path / "jobs").claim(
        Record(1, LAUNCH, "running", 0, pid=orphan.pid, started_ticks=started_ticks(orphan.pid))
    )
    assert StandInAgent(tmp_path).end_of(1).state == "lost"
    assert orphan.wait(60) == -signal.SIGKILL


def test_a_process_that_only_has_the_same_number_is_left_alone(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    ticks = started_ticks(stranger.pid) - 1
    Records(tmp_path / "jobs").claim(Record(1, LAUNCH, "running", 0, pid=stranger.pid, started_ticks=ticks))
    StandInAgent(tmp_path).end_of(1)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_process_of_an_earlier_run_of_the_machine_is_not_looked_for(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    ticks = started_ticks(stranger.pid)
    record = Record(1, LAUNCH, "running", 0, pid=stranger.pid, started_ticks=ticks, boot_id="another")
    Records(tmp_path / "jobs").claim(record)
    assert "the host was started anew" in StandInAgent(tmp_path).end_of(1).reason
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_final_report_that_the_broker_never_got_is_sent_again(tmp_path):
    python = interpreter(tmp_path, SUCCEEDS)
    offline = StandInAgent(tmp_path, python, has_broker=False)
    offline.order(1)
    end = offline.end_of(1)
    again = StandInAgent(tmp_path, python)
    again.has_decided()
    assert again.reports == [end]


def test_a_final_report_that_was_sent_is_not_repeated_at_the_next_start(tmp_path):
    python = interpreter(tmp_path, SUCCEEDS)
    first = StandInAgent(tmp_path, python)
    first.order(1)
    first.end_of(1)
    until(lambda: first.record(1).is_sent)
    again = StandInAgent(tmp_path, python)
    again.has_decided()
    assert again.reports == []


def test_old_records_are_forgotten_and_unsent_ones_are_kept(tmp_path):
    records = Records(tmp_path / "jobs")
    now_ms = time.time_ns() // 1_000_000
    report = {"job": 2, "launch": LAUNCH, "host": HOST, "sequence": 1, "state": "done", "at_ms": 1}
    records.claim(Record(1, LAUNCH, "done", now_ms - KEEP_ENDED_MS - 1, is_sent=True))
    records.claim(Record(2, LAUNCH, "done", now_ms - KEEP_ENDED_MS - 1, final_report=report))
    records.claim(Record(3, LAUNCH, "done", now_ms, is_sent=True))
    records.prune(now_ms)
    assert [record.job for record in records.all()] == [2, 3]


def test_drafts_of_a_killed_agent_are_removed_and_those_of_this_one_stay(tmp_path):
    records = Records(tmp_path / "jobs")
    with records._draft(Record(1, LAUNCH, "starting", 0)) as mine:
        (tmp_path / "jobs" / ".draft-4711-0a1b").write_text("{half")
        records.prune(0)
        assert [path.name for path in (tmp_path / "jobs").iterdir()] == [mine.path.name]


def test_a_damaged_record_keeps_no_other_job_from_its_end(tmp_path):
    records = Records(tmp_path / "jobs")
    records.claim(Record(2, LAUNCH, "running", 0))
    (tmp_path / "jobs" / "1.json").write_text("{half")
    assert StandInAgent(tmp_path).end_of(2).state == "lost"


ODD = {
    "a record that cannot be written any more": {"sequence": "many", "state": "running"},
    "a final report with fields of no agent": {"state": "done", "final_report": {"colour": "red"}},
    "a final report that cannot be packed": {"state": "done", "final_report": {"job": 2**70}},
    "a process of no number": {"state": "running", "pid": "\0"},
}


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_an_odd_record_stays_and_keeps_no_other_job_from_its_end(tmp_path, fields):
    records = Records(tmp_path / "jobs")
    records.claim(Record(**{"job": 1, "launch": LAUNCH, "changed_ms": 0} | fields))
    records.claim(Record(2, LAUNCH, "running", 0))
    agent = StandInAgent(tmp_path)
    assert agent.end_of(2).state == "lost"
    assert agent.reports_of(1) == []
    assert records.get(1).state == fields["state"]


def test_a_folder_that_cannot_be_written_keeps_no_agent_from_its_start_and_is_named(tmp_path):
    (tmp_path / "jobs").write_text("a file where the folder should be")
    agent = StandInAgent(tmp_path)
    agent.order(1)
    end = agent.end_of(1)
    assert (end.state, end.reason) == ("failed", f"{tmp_path / 'jobs'} cannot be written (File exists)")


def test_a_final_report_counts_as_sent_for_its_own_launch_alone(tmp_path):
    records = Records(tmp_path / "jobs")
    records.claim(Record(1, LAUNCH, "done", 0, final_report={"sequence": 3}))
    records.mark_sent(1, "fedcba", 3)
    assert not records.get(1).is_sent


def test_a_record_is_claimed_once(tmp_path):
    records = Records(tmp_path / "jobs")
    assert records.claim(Record(1, LAUNCH, "starting", 5))
    assert not Records(tmp_path / "jobs").claim(Record(1, LAUNCH, "cancelled", 6))
    assert records.get(1).changed_ms == 5
