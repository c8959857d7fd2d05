"""How far this host's clock is from the server's, as each acknowledgement lets it be measured. Published with the agent's cost.

As NTP does it (RFC 5905, section 8): the way there and the way back are taken to be equally long, and half of both is the
bound of the error. An acknowledgement that lay in the broker tells nothing.
"""

import time
from collections.abc import Callable

from telemetry.agent.backends.protocol import Reading
from telemetry.catalog import AbsentReason
from telemetry.message.acknowledgement import Acknowledgement

FRESH_SECONDS = 10.0  # a longer round trip measures the queues on its way
HOLDS_SECONDS = 300.0  # then nothing is known any more


class ClockOffset:
    """`clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: tuple[float, float, float] | None = None  # offset, error, and when it was measured

    def note(self, sample: Acknowledgement, arrived_ms: int) -> None:
        """Take a sample; `arrived_ms` is when the acknowledgement came, by this host's clock."""
        round_trip = (arrived_ms - sample.sent_ms) - (sample.server_ms - sample.received_ms)
        if 0 <= round_trip < FRESH_SECONDS * 1000:
            offset = ((sample.received_ms - sample.sent_ms) + (sample.server_ms - arrived_ms)) / 2
            self._known = offset / 1000, round_trip / 2000, self._clock()

    def known(self) -> tuple[float, float] | None:
        """Return the seconds to add to this host's clock to have the server's, and the bound of their error; None: not known."""
        if self._known is None or self._clock() - self._known[2] > HOLDS_SECONDS:
            return None
        return self._known[0], self._known[1]

    def cost(self) -> dict[str, Reading]:
        """Return the same as readings of this host."""
        names, known = ("host_clock_offset_seconds", "host_clock_error_seconds"), self.known()
        return dict.fromkeys(names, AbsentReason.UNKNOWN) if known is None else dict(zip(names, known, strict=True))
