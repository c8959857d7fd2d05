"""A simulated fleet in the test's own time, with the server about it: what its hosts send is taken in, their orders reach them.

Each ten seconds the watch passes; jobs are watched and judged as beat would have it.
"""

from datetime import UTC, datetime
from uuid import uuid4

from django.db import transaction

from fleet.access.audit import Actor
from fleet.joining import server_key
from telemetry.agent.names import Names
from telemetry.agent.orders import OrderDesk
from telemetry.health.watch import watch
from telemetry.message import envelope
from telemetry.message.wire import INGEST_TASK
from telemetry.receiving import authentic
from telemetry.receiving.ingest import ingest
from telemetry.simulation.fleet import Shape
from tests.telemetry.watched import START
from tests.training.outbox import Outbox
from training.jobs import ingest as job_ingest
from training.jobs import launch
from training.jobs import watch as job_watch
from training.judging import judge, suspicion
from training.message.wire import REPORT_TASK
from training.models import ReferenceJob
from training.simulation.jobs import TASKS
from training.simulation.living import Simulation, enrol

PASS_SECONDS = 10
SHORT = {"steps": 10, "warmup_steps": 2}
ADA = Actor("ada", "127.0.0.1")


class WatchedFleet:
    """`stride` is how many seconds lie between two samples. Its hosts' line is this object: everything is sent at once."""

    def __init__(self, shape: Shape, outbox: Outbox, directory, *, stride: int = 1) -> None:
        self.now, self._stride, self._outbox = START, stride, outbox
        self._keys = enrol(shape, "lab")
        self._desks = {name: OrderDesk(directory, name, server_key.public_bytes()) for name in shape.host_names()}
        self.simulation = Simulation(shape, self._keys, self, clock=lambda: START)
        self.up_since = self.moment

    def names(self, host, machine):
        return Names(uuid4().hex, host=host)

    def n_unsent(self):
        return 0

    def submit_batch(self, parcel):
        sealed = envelope.seal(self._keys[parcel.host], INGEST_TASK, parcel.host, parcel.body)
        host, body = authentic.admit(sealed, INGEST_TASK, self.moment)
        ingest(host, body, self.moment)

    def submit(self, task, payload, *, replaces=""):
        assert task == REPORT_TASK
        job_ingest.ingest_reports([payload], self.moment)

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    def run(self, seconds: float) -> None:
        """Let time go by."""
        until = self.now + seconds
        while self.now < until:
            self.now += self._stride
            self._deliver()
            self.simulation.live(self.now)
            if self.now % PASS_SECONDS < self._stride:
                watch(self.moment)
                self._look_after_jobs()

    def run_until(self, condition, seconds: float = 600) -> None:
        """Let time go by until it holds; it must within so many simulated seconds."""
        end = self.now + seconds
        while not condition():
            assert self.now < end, "what was waited for did not come"
            self.run(PASS_SECONDS)

    def launch(self, *hosts: str, workload: str = "gpt-train") -> list[ReferenceJob]:
        """Launch a short training on these hosts, and let time go by until each has its verdict."""
        with transaction.atomic():
            wanted = [(host, "") for host in hosts]
            jobs = launch.prepare(workload, wanted, SHORT, actor=ADA, now=self.moment)
        launch.send(jobs)
        found = ReferenceJob.objects.filter(pk__in=[job.pk for job in jobs])
        self.run_until(lambda: found.filter(verdict=None).count() == 0)
        return list(found.select_related("verdict", "host").order_by("pk"))

    def _deliver(self) -> None:
        for host, desk in self._desks.items():
            for task, payload in self._outbox.sealed(host):
                if task in TASKS:
                    self.simulation.jobs.take(task, desk.open(task, payload, round(self.now * 1000)))

    def _look_after_jobs(self) -> None:
        job_watch.watch(self.moment, self.up_since)
        for job in judge.waiting(self.moment):
            suspicion.open_suspicion(judge.judge(job, self.moment), self.moment)
        suspicion.follow(self.moment)
