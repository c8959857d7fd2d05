"""Letting go of drivers for a while, so that a GPU can be reset, and taking them up again: who asked, until when.

Orders come from the host's Celery tasks and from the control socket; one thread decides. A release is kept in the agent's
directory until its end, so that it outlives a restart; the server is told of each change.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import msgpack

from telemetry.agent import private_file
from telemetry.agent.collector import Driver
from telemetry.agent.context import Submit
from telemetry.agent.control import MOST_MINUTES
from telemetry.agent.orders import OrderDesk
from telemetry.agent.sampler import Sampler
from telemetry.message import notices
from telemetry.message.notices import NOTICE_TASK, Notice, NoticeKind
from telemetry.message.wire import DeviceInfo, DeviceKind, MessageInvalid

logger = logging.getLogger(__name__)

FILE = "released.json"
RELEASE_TASK, RESUME_TASK = "host.release_driver", "host.resume_driver"
DEFAULT_MINUTES = 30.0
CONFIRM_SECONDS = 15.0  # a driver may be slow to let go of: its event thread ends first
_LOOK_SECONDS = 0.05
_BY_LENGTH = 100


@dataclass(slots=True)
class _Wish:
    """What is wanted; `answer` gets what happened. An order's payload is opened by the deciding thread."""

    do: str
    minutes: float = DEFAULT_MINUTES
    by: str = ""
    payload: object = None
    is_redelivery: bool = False
    answer: SimpleQueue[str] = field(default_factory=SimpleQueue)


class DriverControl:
    """One for each agent. `now` gives UTC seconds."""

    def __init__(
        self,
        host: str,
        directory: Path,
        sampler: Sampler,
        orders: OrderDesk,
        submit: Submit,
        now: Callable[[], float] = time.time,
        *,
        confirm_seconds: float = CONFIRM_SECONDS,
    ) -> None:
        self._host, self._path = host, directory / FILE
        self._sampler, self._orders, self._submit, self._now = sampler, orders, submit, now
        self._confirm_seconds = confirm_seconds
        self._inbox: SimpleQueue[_Wish | None] = SimpleQueue()
        self._until: float | None = None  # UTC seconds; None: nothing is let go of
        self._seconds = 0.0  # how long the release is meant to last
        self._thread = Thread(target=self._run, name="drivers", daemon=True)

    def start(self) -> None:
        """Take up a release that an earlier life of the agent left; called before sampling starts."""
        self._restore()
        self._thread.start()

    def stop(self) -> None:
        self._inbox.put(None)

    def ask(self, do: str, minutes: float) -> str:
        """Carry out what a person on this host asks, and return what happened."""
        wish = _Wish(do, minutes, by="a command on the host")
        self._inbox.put(wish)
        return wish.answer.get()

    def take_order(self, task: str, payload: object, *, is_redelivery: bool = False) -> None:
        """Put a sealed order of the server into the inbox and return at once."""
        self._inbox.put(_Wish(task, payload=payload, is_redelivery=is_redelivery))

    def _run(self) -> None:
        while True:
            try:
                wish = self._inbox.get(timeout=self._left())
            except Empty:
                wish = _Wish("resume", by="the agent itself, its time being over")
            if wish is None:
                return
            try:
                text = self._carry_out(wish)
            except MessageInvalid as error:
                text = f"an order about the drivers was left out: {error}"
            except Exception as error:  # the thread's outermost loop: one bad order must not end them all
                logger.exception("an order about the drivers could not be carried out")
                text = f"failed: {type(error).__name__}: {error}"
            logger.info("%s", text)
            wish.answer.put(text)

    def _left(self) -> float | None:
        """Return the seconds until the drivers are taken up again. A clock that was set back does not make it longer."""
        return None if self._until is None else max(0.0, min(self._until - self._now(), self._seconds))

    def _carry_out(self, wish: _Wish) -> str:
        if wish.do in {RELEASE_TASK, RESUME_TASK}:
            wish = self._opened(wish)
        return self._release(wish.minutes, wish.by) if wish.do == "release" else self._resume(wish.by)

    def _opened(self, wish: _Wish) -> _Wish:
        """Return the wish of a sealed order. Raises MessageInvalid."""
        if not isinstance(wish.payload, bytes):
            raise MessageInvalid(f"{wish.do}: expected bytes")
        body = self._orders.open(wish.do, wish.payload, int(self._now() * 1000), is_redelivery=wish.is_redelivery)
        try:
            order = msgpack.unpackb(body)
            minutes, by = float(order.get("minutes", DEFAULT_MINUTES)), str(order.get("by", ""))[:_BY_LENGTH]
        except (ValueError, TypeError, AttributeError) as error:
            raise MessageInvalid(f"{wish.do}: expected minutes and by ({error})") from error
        if not 0 < minutes <= MOST_MINUTES:
            raise MessageInvalid(f"minutes: expected more than 0 and at most {MOST_MINUTES:g}")
        return _Wish("release" if wish.do == RELEASE_TASK else "resume", minutes, by)

    def _release(self, minutes: float, by: str) -> str:
        self._seconds = minutes * 60
        self._until = self._now() + self._seconds
        known = {driver.name: list(driver.devices) for driver in self._sampler.drivers()}
        kept = self._keep(known)
        self._sampler.release(known)
        drivers = self._await(lambda driver: not driver.is_open)
        outcome = ", ".join(map(_let_go, drivers)) or "no driver was in use"
        text = f"{outcome}; until {_clock(self._until)} ({minutes:g} min), asked by {by}"
        self._tell(NoticeKind.DRIVER_RELEASED, text)
        return text if kept else f"{text}; {self._path} cannot be written, so that a restart of the agent ends it"

    def _resume(self, by: str) -> str:
        if self._until is None:
            return "nothing was let go of"
        self._until = None
        self._path.unlink(missing_ok=True)
        self._sampler.resume()
        drivers = self._await(lambda driver: driver.is_open)
        text = f"{', '.join(map(_taken_up, drivers)) or 'no driver is there to take up'}; asked by {by}"
        self._tell(NoticeKind.DRIVER_RESUMED, text)
        return text

    def _await(self, is_done: Callable[[Driver], bool]) -> list[Driver]:
        """Return the drivers that have devices, once they are as wanted or it has taken too long."""
        deadline = time.monotonic() + self._confirm_seconds
        while True:
            drivers = [driver for driver in self._sampler.drivers() if driver.devices]
            if all(map(is_done, drivers)) or time.monotonic() >= deadline:
                return drivers
            time.sleep(_LOOK_SECONDS)

    def _tell(self, kind: NoticeKind, text: str) -> None:
        notice = Notice(secrets.token_hex(16), self._host, kind, int(self._now() * 1000), text)
        self._submit(NOTICE_TASK, notices.pack(notice))

    def _keep(self, known: dict[str, list[DeviceInfo]]) -> bool:
        devices = {name: [asdict(device) for device in found] for name, found in known.items()}
        content = {"until": self._until, "seconds": self._seconds, "devices": devices}
        try:
            private_file.write(self._path, json.dumps(content).encode())
        except OSError:
            logger.exception("%s cannot be written: a restart of the agent takes the drivers up again", self._path)
            return False
        return True

    def _restore(self) -> None:
        try:
            content = json.loads(self._path.read_bytes())
            known = {name: [_device(row) for row in rows] for name, rows in content["devices"].items()}
            until, seconds = float(content["until"]), float(content["seconds"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            logger.warning("%s is left out, the drivers are taken up: %s", self._path, error)
            return
        if until <= self._now():
            self._path.unlink(missing_ok=True)
            return
        self._until, self._seconds = until, seconds
        self._sampler.release(known)
        logger.info("the drivers stay let go of until %s", _clock(until))


def _device(row: dict[str, Any]) -> DeviceInfo:
    return DeviceInfo(**{**row, "kind": DeviceKind(row["kind"])})


def _let_go(driver: Driver) -> str:
    if driver.held:
        held = ", ".join(filter(None, driver.held)) or "all of it"
        return f"{driver.name}: a driver call does not return ({held}), it is let go of when it does"
    return f"{driver.name}: still in use" if driver.is_open else f"{driver.name}: let go of"


def _taken_up(driver: Driver) -> str:
    return f"{driver.name}: taken up" if driver.is_open else f"{driver.name}: not there yet, the agent tries again"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
