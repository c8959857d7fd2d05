"""The order desk: opens what comes from the server, and lets each order through once. Called by the host's Celery tasks.

An order is obeyed if the server's key signed it for this host and this task, if it has not expired, and if its nonce is
new. Nonces are remembered on the disk for longer than their orders hold. What was refused stands in the log, and the
server is told.
"""

import logging
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NamedTuple, NoReturn

from telemetry.agent import full_disk, private_file
from telemetry.agent.invalid import ConfigInvalid
from telemetry.message import envelope
from telemetry.message.envelope import NONCE_BYTES, Envelope, SignatureInvalid
from telemetry.message.notices import MOST_AT_ONCE, Notice, NoticeKind
from telemetry.message.wire import MessageInvalid

logger = logging.getLogger(__name__)

FILE = "orders.seen"
MAX_LIFETIME_MS = 7 * 86_400_000  # nobody orders a week ahead; bounds what must be remembered
KEEP_AFTER_EXPIRY_MS = 86_400_000  # a clock that is set back by less makes no old order new
MAX_NONCES = 100_000
FORGET_AFTER_LINES = 1_000  # the file is written anew when it has so many, and twice as many as it needs
REDELIVERY_MS = 10 * 60_000  # a broker that hands an order out again does so soon
TELL_EVERY_MS = 60_000  # of each kind: a flood of forged orders is one notice a minute
_NONCE = re.compile(rb"[0-9a-f]{32}")


class _Taken(NamedTuple):
    """An order: when it expires, and when this host took it (UTC milliseconds)."""

    expires_ms: int
    at_ms: int


class _Refused(NamedTuple):
    """Orders of a kind that were refused and are not told of yet: how many, and why the last one was."""

    number: int
    reason: str


class OrderRefused(MessageInvalid):
    """An order that this host does not obey; the text says why."""


class OrderNotNoted(OrderRefused):
    """A good order that is not obeyed only because this host cannot note it; `body` is what it asks for, `why` says why not."""

    def __init__(self, reason: str, body: bytes, why: str) -> None:
        super().__init__(reason)
        self.body, self.why = body, why


class OrderDesk:
    """`tell` is handed the notices for the server: refused orders, counted, at most one a minute of each kind.

    What is refused within that minute is told after it, with the next message of the server: acknowledgements come all the time.
    """

    def __init__(
        self, directory: Path, host: str, server_public_key: bytes, tell: Callable[[Notice], None] | None = None
    ) -> None:
        self._path = directory / FILE
        self._host, self._server_public_key, self._tell = host, server_public_key, tell
        self._lock = Lock()
        self._seen: dict[bytes, _Taken] = _read(self._path)  # by the order's nonce
        self._lines, self._forget_at = len(self._seen), FORGET_AFTER_LINES
        self._refused: dict[NoticeKind | None, _Refused] = {}  # None: what is no message at all
        self._told_ms: dict[NoticeKind | None, int] = {}

    def open(self, task: str, payload: object, now_ms: int, *, is_redelivery: bool = False) -> bytes:
        """Return the body of an order to `task`. Raises OrderRefused: then nothing may be done; OrderNotNoted may be answered.

        `is_redelivery`: the broker says that it hands the message out again. Soon after the order was taken, that is no
        attack: what it asked for was done, or the server asks again by a new order. Later, nobody believes the broker.
        """
        order, body = self._verified(task, payload, now_ms)
        unwritten = obstacle = ""
        with self._lock:
            taken = self._seen.get(order.nonce)
            try:
                obstacle = "" if taken else self._remember(order.nonce, _Taken(order.expires_ms, now_ms))
            except OSError as error:
                unwritten = full_disk.why_not_written(self._path, error, len(_line(order.nonce, _Taken(0, now_ms))))
        if unwritten:
            reason = f"{task}: an order that cannot be noted and so is not obeyed ({unwritten})"
            self._refuse(NoticeKind.ORDER_REFUSED, now_ms, reason, OrderNotNoted(reason, body, unwritten))
        if obstacle:
            self._refuse(NoticeKind.ORDER_REFUSED, now_ms, f"{task}: {obstacle}")
        if taken and is_redelivery and abs(now_ms - taken.at_ms) < REDELIVERY_MS:
            logger.info("%s: the broker handed an order out again that this host took", task)
            raise OrderRefused(f"{task}: the broker handed an order out again that this host took")
        if taken:
            self._refuse(NoticeKind.REPLAYED_ORDER, now_ms, f"{task}: an order that this host took before")
        return body

    def open_repeatable(self, task: str, payload: object, now_ms: int) -> bytes:
        """Return the body of an order that does no harm when it comes twice or late. Raises OrderRefused.

        It is this host's and signed by the server; its nonce is not noted, and its expiry not asked for.
        """
        return self._verified(task, payload, now_ms)[1]

    def _verified(self, task: str, payload: object, now_ms: int) -> tuple[Envelope, bytes]:
        """Return an order for this host that the server's key signed, and its body."""
        order = self._read(task, payload, now_ms)
        if order.host != self._host:
            self._refuse(
                NoticeKind.FORGED_ORDER, now_ms, f"{task}: an order for {order.host[:63]} came to {self._host}"
            )
        try:
            body = order.verify(task, self._server_public_key)
        except SignatureInvalid:
            self._refuse(NoticeKind.FORGED_ORDER, now_ms, f"{task}: an order that the server's key did not sign")
        if len(order.nonce) != NONCE_BYTES:
            self._refuse(NoticeKind.FORGED_ORDER, now_ms, f"{task}: a message of the server that is no order")
        self._tell_due(now_ms)
        return order, body

    def _read(self, task: str, payload: object, now_ms: int) -> Envelope:
        """Return the message. What is none is not told: whoever reaches the broker could fill the events with it."""
        try:
            if not isinstance(payload, bytes):
                raise MessageInvalid("expected bytes")  # noqa: TRY301 — one place says what is left out
            return envelope.read(payload)
        except MessageInvalid as error:
            self._refuse(None, now_ms, f"{task}: what is no order ({error})")

    def _remember(self, nonce: bytes, order: _Taken) -> str:
        """Have the nonce on the disk before its order is obeyed; return why it cannot be obeyed, "" where it can.

        Raises OSError where it cannot be written: then it is remembered for this life alone, and not obeyed.
        """
        now_ms = order.at_ms
        if now_ms > order.expires_ms:
            return f"an order that expired {(now_ms - order.expires_ms) / 1000:.0f} s ago by this host's clock"
        if order.expires_ms > now_ms + MAX_LIFETIME_MS:
            days = MAX_LIFETIME_MS // 86_400_000
            return f"an order that holds for more than {days} days by this host's clock"
        if self._lines >= self._forget_at:
            self._forget(now_ms)
        if len(self._seen) >= MAX_NONCES:
            return f"an order beyond the {MAX_NONCES} that hold (no more are taken before some have expired)"
        self._seen[nonce] = order
        private_file.append(self._path, _line(nonce, order))
        self._lines += 1
        return ""

    def _forget(self, now_ms: int) -> None:
        """Write anew what must still be remembered. Raises OSError."""
        kept = {
            nonce: order for nonce, order in self._seen.items() if order.expires_ms + KEEP_AFTER_EXPIRY_MS >= now_ms
        }
        private_file.write(self._path, b"".join(_line(nonce, order) for nonce, order in kept.items()))
        self._seen, self._lines = kept, len(kept)
        self._forget_at = max(FORGET_AFTER_LINES, min(2 * len(kept), MAX_NONCES))

    def _refuse(
        self, kind: NoticeKind | None, now_ms: int, reason: str, refused: OrderRefused | None = None
    ) -> NoReturn:
        """Count, log and tell at most once a minute, and raise."""
        with self._lock:
            before = self._refused.get(kind)
            self._refused[kind] = _Refused(before.number + 1 if before else 1, reason)
        self._tell_due(now_ms)
        raise refused or OrderRefused(reason)

    def _tell_due(self, now_ms: int) -> None:
        with self._lock:
            due = [kind for kind in self._refused if self._is_due(kind, now_ms)]
            told = [(kind, self._refused.pop(kind)) for kind in due]
            self._told_ms |= dict.fromkeys(due, now_ms)
        for kind, (count, reason) in told:
            text = f"{reason} was refused"
            logger.warning("%s%s", text, f" (the last of {count} since the last notice)" if count > 1 else "")
            if self._tell and kind:
                told_count = min(count, MOST_AT_ONCE)
                self._tell(Notice(secrets.token_hex(16), self._host, kind, now_ms, text, told_count))

    def _is_due(self, kind: NoticeKind | None, now_ms: int) -> bool:
        told_ms = self._told_ms.get(kind)
        return told_ms is None or abs(now_ms - told_ms) >= TELL_EVERY_MS  # abs: a clock may be set back


def _line(nonce: bytes, order: _Taken) -> bytes:
    """A line begins with its newline, so that one which a crash cut off does not swallow the next, and ends with the nonce."""
    return f"\n{order.expires_ms} {order.at_ms} {nonce.hex()}".encode()


def _read(path: Path) -> dict[bytes, _Taken]:
    """Return the nonces. A line that a crash cut off belongs to an order that was not obeyed. Raises ConfigInvalid."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigInvalid(f"{path}: the orders taken so far cannot be read ({error.strerror})") from error
    found = {}
    for line in lines:
        expires, _, rest = line.partition(b" ")
        at, _, nonce = rest.rpartition(b" ")  # an agent of before wrote no time
        if expires.isdigit() and _NONCE.fullmatch(nonce):
            found[bytes.fromhex(nonce.decode())] = _Taken(int(expires), int(at) if at.isdigit() else 0)
    return found
