"""How long the devices of an account could have told of their energy. Called by the energy accounts.

One that reports, or should, is asked for the whole time. A recorded host has no present: it is asked from the first minute of
its recording to its last sample, gaps within included.
"""

from collections.abc import Iterable, Mapping

from django.db.models import OuterRef, Subquery

from fleet.models import Host, Origin
from telemetry.models import Rollup
from telemetry.store.stays import Stay

Span = tuple[int, int]  # ms UTC
_MINUTE = 60


def recorded() -> dict[int, Span]:
    """Return from when to when each imported host's recording goes, by host id; no time at all while it is not rolled up."""
    minutes = Rollup.objects.filter(host=OuterRef("pk"), step_seconds=_MINUTE).order_by("start_ms").values("start_ms")
    hosts = Host.objects.filter(origin=Origin.IMPORTED).annotate(first_ms=Subquery(minutes[:1])).order_by()
    return {
        pk: (0, 0) if first_ms is None or last is None else (first_ms, round(last.timestamp() * 1000))
        for pk, first_ms, last in hosts.values_list("pk", "first_ms", "last_seen_at")
    }


class Asked:
    """Of devices on these hosts, one for each time that a host is named, and of others for the times of these stays."""

    def __init__(self, host_ids: Iterable[int], stays: Iterable[Stay], recordings: Mapping[int, Span]) -> None:
        self._recordings, self._stays = recordings, list(stays)
        self._spans: list[Span] = []
        self._n_live = 0
        for host_id in host_ids:
            if host_id in recordings:
                self._spans.append(recordings[host_id])
            else:
                self._n_live += 1

    def of_all(self, start_ms: int, end_ms: int) -> float:
        """Return the seconds of start ≤ time < end for which the devices together are asked."""
        inside = sum(_inside(span, start_ms, end_ms) for span in self._spans)
        moved = sum(self.of_stay(stay, start_ms, end_ms) for stay in self._stays)
        return (self._n_live * (end_ms - start_ms) + inside) / 1000 + moved

    def of_stay(self, stay: Stay, start_ms: int, end_ms: int) -> float:
        """Return the same of one device for the time of its stay with a host."""
        start_ms, end_ms = max(start_ms, stay.from_ms), min(end_ms, stay.until_ms)
        span = self._recordings.get(stay.host_id, (start_ms, end_ms))
        return _inside(span, start_ms, end_ms) / 1000


def _inside(span: Span, start_ms: int, end_ms: int) -> int:
    return max(0, min(span[1], end_ms) - max(span[0], start_ms))
