"""The host's Celery tasks about its drivers and its batches, loaded by the host's own app. A task only hands its message over."""

from celery import Task, shared_task

from telemetry.agent.acknowledging import Acknowledging
from telemetry.agent.drivers import RELEASE_TASK, RESUME_TASK, DriverControl
from telemetry.message.acknowledgement import ACKNOWLEDGE_TASK

_controls: list[DriverControl] = []  # one, from `attach` on
_acknowledgings: list[Acknowledging] = []  # one, from `attach_acknowledging` on


def attach(control: DriverControl) -> None:
    _controls[:] = [control]


def attach_acknowledging(acknowledging: Acknowledging) -> None:
    _acknowledgings[:] = [acknowledging]


@shared_task(bind=True, name=RELEASE_TASK, serializer="msgpack", ignore_result=True)
def release_driver(self: Task, payload: object) -> None:
    _take(self, RELEASE_TASK, payload)


@shared_task(bind=True, name=RESUME_TASK, serializer="msgpack", ignore_result=True)
def resume_driver(self: Task, payload: object) -> None:
    _take(self, RESUME_TASK, payload)


@shared_task(name=ACKNOWLEDGE_TASK, serializer="msgpack", ignore_result=True)
def acknowledge(payload: object) -> None:
    _acknowledgings[0].take_order(payload)


def _take(task: Task, name: str, payload: object) -> None:
    is_redelivery = bool((task.request.delivery_info or {}).get("redelivered"))
    _controls[0].take_order(name, payload, is_redelivery=is_redelivery)
