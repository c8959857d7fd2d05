"""The order desk: opens what comes from the server, and lets each order through once. Called by the host's Celery tasks.

An order is obeyed if the server's key signed it for this host and this task, if it has not expired, and if its nonce is
new. Nonces are remembered on the disk for longer than their orders hold. What was refused, the server is told.
"""

import logging
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import NoReturn

from telemetry import envelope
from telemetry.agent import private_file
from telemetry.agent.invalid import ConfigInvalid
from telemetry.envelope import NONCE_BYTES, SignatureInvalid
from telemetry.notices import Notice, NoticeKind
from telemetry.wire import MessageInvalid

logger = logging.getLogger(__name__)

FILE = "orders.seen"
MAX_LIFETIME_MS = 7 * 86_400_000  # nobody orders a week ahead; bounds what must be remembered
KEEP_AFTER_EXPIRY_MS = 86_400_000  # a clock that is set back by less makes no old order new
MAX_NONCES = 100_000
FORGET_AFTER_LINES = 1_000  # the file is written anew when it has so many, and twice as many as it needs
TELL_EVERY_MS = 60_000  # of each kind: a flood of forged orders is one notice a minute
_NONCE = re.compile(rb"[0-9a-f]{32}")


class OrderRefused(MessageInvalid):
    """An order that this host does not obey; the text says why."""


class OrderDesk:
    """`tell` is handed the notices for the server: forged and replayed orders, counted, at most one a minute of each."""

    def __init__(
        self, directory: Path, host: str, server_public_key: bytes, tell: Callable[[Notice], None] | None = None
    ) -> None:
        self._path = directory / FILE
        self._host, self._server_public_key, self._tell = host, server_public_key, tell
        self._lock = Lock()
        self._seen: dict[bytes, int] = _read(self._path)  # nonce → when its order expires
        self._lines, self._forget_at = len(self._seen), FORGET_AFTER_LINES
        self._refused: dict[NoticeKind, int] = {}
        self._told_ms: dict[NoticeKind, int] = {}

    def open(self, task: str, payload: bytes, now_ms: int, *, is_redelivery: bool = False) -> bytes:
        """Return the body of an order to `task`. Raises MessageInvalid (OrderRefused): then nothing may be done.

        `is_redelivery`: the broker says that it hands the message out again. Then a known nonce is no attack, and the
        order was taken: what it asked for was done, or the server asks again by a new order.
        """
        order = envelope.read(payload)
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
        if now_ms > order.expires_ms:
            raise OrderRefused(f"{task}: the order expired {(now_ms - order.expires_ms) / 1000:.0f} s ago")
        if order.expires_ms > now_ms + MAX_LIFETIME_MS:
            raise OrderRefused(
                f"{task}: the order holds for more than {MAX_LIFETIME_MS // 86_400_000} days; see the clock"
            )
        with self._lock:
            is_known = order.nonce in self._seen
            if not is_known:
                self._remember(order.nonce, order.expires_ms, now_ms)
        if is_known and is_redelivery:
            raise OrderRefused(f"{task}: the broker handed an order out again that this host took")
        if is_known:
            self._refuse(NoticeKind.REPLAYED_ORDER, now_ms, f"{task}: an order that this host took before")
        return body

    def _remember(self, nonce: bytes, expires_ms: int, now_ms: int) -> None:
        """Have the nonce on the disk before its order is obeyed. Raises OrderRefused where that cannot be."""
        if self._lines >= self._forget_at:
            self._forget(now_ms)
        if len(self._seen) >= MAX_NONCES:
            raise OrderRefused(f"{MAX_NONCES} orders hold at once: no more are taken before some have expired")
        try:
            private_file.append(self._path, _line(nonce, expires_ms))
        except OSError as error:
            raise OrderRefused(
                f"{self._path}: the order cannot be noted ({error.strerror}), so it is not obeyed"
            ) from error
        self._seen[nonce] = expires_ms
        self._lines += 1

    def _forget(self, now_ms: int) -> None:
        """Write anew what must still be remembered."""
        kept = {nonce: at for nonce, at in self._seen.items() if at + KEEP_AFTER_EXPIRY_MS >= now_ms}
        try:
            private_file.write(self._path, b"".join(_line(nonce, at) for nonce, at in kept.items()))
        except OSError as error:
            raise OrderRefused(f"{self._path}: cannot be written ({error.strerror}), so no order is obeyed") from error
        self._seen, self._lines = kept, len(kept)
        self._forget_at = max(FORGET_AFTER_LINES, min(2 * len(kept), MAX_NONCES))

    def _refuse(self, kind: NoticeKind, now_ms: int, reason: str) -> NoReturn:
        """Count, tell at most once a minute, and raise."""
        with self._lock:
            count = self._refused[kind] = self._refused.get(kind, 0) + 1
            told_ms = self._told_ms.get(kind)
            is_due = told_ms is None or abs(now_ms - told_ms) >= TELL_EVERY_MS  # abs: a clock may be set back
            if is_due:
                self._told_ms[kind], self._refused[kind] = now_ms, 0
        if is_due:
            text = f"{reason} was refused" + (f" ({count} such since the last notice)" if count > 1 else "")
            logger.warning("%s", text)
            if self._tell:
                self._tell(Notice(secrets.token_hex(16), self._host, kind, now_ms, text))
        raise OrderRefused(reason)


def _line(nonce: bytes, expires_ms: int) -> bytes:
    """A line begins with its newline, so that one which a crash cut off does not swallow the next."""
    return f"\n{expires_ms} {nonce.hex()}".encode()


def _read(path: Path) -> dict[bytes, int]:
    """Return the nonces. A line that a crash cut off belongs to an order that was not obeyed. Raises ConfigInvalid."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigInvalid(f"{path}: the orders taken so far cannot be read ({error.strerror})") from error
    found = {}
    for line in lines:
        expires, _, nonce = line.partition(b" ")
        if expires.isdigit() and _NONCE.fullmatch(nonce):
            found[bytes.fromhex(nonce.decode())] = int(expires)
    return found
