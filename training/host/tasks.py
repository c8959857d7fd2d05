"""The host's Celery tasks for reference jobs, and the agent's extension `attach`. Loaded by the host's own app; no Django.

A task only opens its order and hands it over, and returns at once, so that a cancel gets through at any time.
"""

import logging
from typing import Any

from celery import Task, shared_task

from telemetry.agent.context import AgentContext
from telemetry.agent.orders import OrderNotNoted
from telemetry.message.wire import MessageInvalid
from training.host.reports import now_ms
from training.host.runner import JobRunner
from training.host.steps import StepHold
from training.message.wire import CANCEL_TASK, START_TASK, STEPS_CARGO

logger = logging.getLogger(__name__)


class JobDesk:
    """What passes the order desk goes to the runner; the rest has no effect."""

    def __init__(self, context: AgentContext) -> None:
        self._orders = context.orders
        self._runner = JobRunner(context)
        self._takers = {START_TASK: self._runner.take_order, CANCEL_TASK: self._runner.take_cancel}

    def take(self, task: str, payload: object, *, is_redelivery: bool) -> None:
        try:
            body = self._orders.open(task, payload, now_ms(), is_redelivery=is_redelivery)
        except OrderNotNoted as error:
            if task == START_TASK:  # whoever launched is told at once; a cancel has nobody who waits for an answer
                self._runner.refuse_order(error.body, error.why)
            return
        except MessageInvalid as error:
            logger.debug("an order was left out: %s", error)  # the desk has warned of it, at most once a minute
            return
        self._takers[task](body)

    def stop(self) -> None:
        self._runner.stop()


_desks: list[JobDesk] = []  # one, from `attach` on


def attach(context: AgentContext) -> None:
    """Make the runner, whose jobs end with the agent, and have the step timings of this host go along with its batches."""
    desk = JobDesk(context)
    context.on_end(desk.stop)
    _desks[:] = [desk]
    hold = StepHold()
    context.on_frames(hold.put)
    context.on_cargo(STEPS_CARGO, hold.take)


@shared_task(name=START_TASK, serializer="msgpack", ignore_result=True, bind=True)
def start_job(self: Task, payload: object) -> None:
    _desks[0].take(START_TASK, payload, is_redelivery=_is_redelivery(self))


@shared_task(name=CANCEL_TASK, serializer="msgpack", ignore_result=True, bind=True)
def cancel_job(self: Task, payload: object) -> None:
    _desks[0].take(CANCEL_TASK, payload, is_redelivery=_is_redelivery(self))


def _is_redelivery(task: Task) -> bool:
    delivery: dict[str, Any] = task.request.delivery_info or {}
    return bool(delivery.get("redelivered"))
