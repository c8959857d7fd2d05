"""The host's Celery tasks for reference jobs, and the agent's extension `attach`. Loaded by the host's own app; no Django.

A task only hands its message over and returns at once, so that a cancel gets through at any time.
"""

from celery import shared_task

from telemetry.agent.context import AgentContext
from training.host.runner import JobRunner
from training.host.steps import StepForwarder
from training.wire import CANCEL_TASK, START_TASK

_runners: list[JobRunner] = []  # one, from `attach` on


def attach(context: AgentContext) -> None:
    """Make the runner, and forward the step timings of this host."""
    _runners[:] = [JobRunner(context)]
    context.on_frames(StepForwarder(context.host, context.submit).forward)


@shared_task(name=START_TASK, serializer="msgpack", ignore_result=True)
def start_job(payload: bytes) -> None:
    _runners[0].take_order(payload)


@shared_task(name=CANCEL_TASK, serializer="msgpack", ignore_result=True)
def cancel_job(payload: bytes) -> None:
    _runners[0].take_cancel(payload)
