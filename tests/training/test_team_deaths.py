"""Ways in which a distributed job dies that its agents alone see, by real processes: all ranks end, and the page says why."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import psutil
import pytest

from telemetry.message.wire import DeviceInfo, DeviceKind
from tests.training.agents import StandInAgent, interpreter, is_alive
from tests.training.outbox import Outbox
from tests.training.pages import text
from tests.training.teams import committed, distributed, now_of
from training.jobs.ingest import ingest_report
from training.message import wire
from training.models import JobState, ReferenceJob

pytestmark = pytest.mark.django_db
NAMES = ("node-1", "node-2")
SECONDS, LIMIT_SECONDS = 60, 10  # long enough for both ranks to be seen measuring before it ends them
# As a rank within a collective: it says that it measures, and then nothing more.
WAITS = """echo '{"event": "stage", "name": "measure"}' > /dev/fd/$5
exec sleep 300"""


class Team:
    """A distributed job and its ranks' agents; `carry` brings the server's orders there and their reports back."""

    def __init__(self, directory: Path, outbox: Outbox, *programs: str) -> None:
        self.jobs = distributed(*NAMES)
        self.agents = []
        self._outbox, self._n_carried = outbox, [0] * len(NAMES)
        for job, program in zip(self.jobs, programs or (WAITS, WAITS), strict=True):
            own = directory / job.host.name
            own.mkdir()
            agent = StandInAgent(own, interpreter(own, program), host=job.host.name)
            agent.devices = [DeviceInfo(job.device.uuid, DeviceKind.CPU, 0, "A processor")]
            self.agents.append(agent)

    def carry(self, until: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not until():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            for place, agent in enumerate(self.agents):
                self._carry(place, agent)
            time.sleep(0.05)

    def _carry(self, place: int, agent: StandInAgent) -> None:
        for task, body in self._outbox.taken(agent.host):
            if task == wire.START_TASK:
                order = replace(wire.unpack_order(body), time_limit_seconds=LIMIT_SECONDS)
                agent.runner.take_order(wire.pack(order))
            else:
                agent.runner.take_cancel(body)
        reports = agent.reports[self._n_carried[place] :]
        self._n_carried[place] += len(reports)
        for report in reports:
            with committed():
                ingest_report(self.jobs[place].host, wire.pack(report), datetime.now(UTC))

    @property
    def states(self) -> list[str]:
        return [now_of(job).state for job in self.jobs]

    def pids(self) -> list[int]:
        """Wait until both ranks measure, and return their processes."""
        self.carry(lambda: set(ReferenceJob.objects.values_list("stage", flat=True)) == {"measure"})
        return [agent.running(job.pk).pid for agent, job in zip(self.agents, self.jobs, strict=True)]

    def ended(self) -> None:
        self.carry(lambda: all(now_of(job).is_final for job in self.jobs))


@pytest.fixture
def team(tmp_path, outbox) -> Team:
    return Team(tmp_path, outbox)


def page(viewer, job: ReferenceJob) -> str:
    return unescape(text(viewer.get(f"/reference/{job.pk}/")))


@pytest.mark.parametrize("hung", [0, 1])
def test_a_rank_that_hangs_ends_all_at_the_time_limit(viewer, team, hung):
    pids = team.pids()
    os.kill(pids[hung], signal.SIGSTOP)  # as one that a driver never gives back: no signal but SIGKILL reaches it

    team.ended()

    assert not any(map(is_alive, pids))
    assert team.states[0] == JobState.FAILED
    assert f"took longer than its limit of {LIMIT_SECONDS} s" in page(viewer, team.jobs[0])
    assert f"took longer than its limit of {LIMIT_SECONDS} s" in page(viewer, team.jobs[1])


def test_a_hung_rank_is_cancelled_all_the_same(viewer, operator, team):
    pids = team.pids()
    os.kill(pids[1], signal.SIGSTOP)
    for _ in range(2):
        assert operator.post(f"/reference/{team.jobs[0].pk}/cancel/").status_code == 302

    team.ended()

    assert not any(map(is_alive, pids))
    assert team.states == [JobState.CANCELLED] * 2
    assert "cancelled by operator" in page(viewer, team.jobs[0])


def test_a_rank_without_torch_ends_the_other_with_its_reason(viewer, tmp_path, outbox):
    team = Team(tmp_path, outbox, WAITS, f'exec {shlex.quote(sys.executable)} -S "$@"')

    team.ended()

    assert team.states[0] == JobState.FAILED
    assert "rank 1 on node-2: torch is not installed for" in page(viewer, team.jobs[0])
    assert not any(process.name() == "sleep" for process in psutil.Process().children(recursive=True))
