"""Says in the agent's log when the broker takes what is sent and the server answers none of it. Told by the outbox.

Else whoever looks at the host sees nothing: the connection stands, and the spool grows.
"""

import logging

logger = logging.getLogger(__name__)

UNHEARD_SECONDS = 600.0  # the server answers each 15 s


class Unheard:
    """`sent`, `connected` and `answered` are told with the time of one clock, in seconds, which never goes back."""

    def __init__(self) -> None:
        self._since: float | None = None  # when the first batch was sent that nothing has answered since
        self._is_told = False

    def connected(self) -> None:
        """Begin anew: while the broker was away nobody could answer."""
        self._since = None

    def sent(self, now: float) -> None:
        if self._since is None:
            self._since = now
        if not self._is_told and now - self._since >= UNHEARD_SECONDS:
            self._is_told = True
            logger.warning(
                "the broker takes what is sent, but for %.0f min the server has acknowledged nothing: it may be down, or not "
                "know this host any more (removed, or joined anew from elsewhere), which stands under Events there; batches "
                "wait in the spool",
                (now - self._since) / 60,
            )

    def answered(self) -> None:
        self._since = None
        if self._is_told:
            self._is_told = False
            logger.info("the server acknowledges again")
