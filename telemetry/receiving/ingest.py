"""From agents' messages to stored samples and events: checked, their hosts and devices known, stored once. No HTTP, no Celery.

Messages come in groups, and a group is one transaction, or a few where many of its hosts tell of themselves: whatever order,
split or repetition they come in, the same is stored.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.db import transaction

from fleet.inventory import events
from fleet.models import EventKind, Host
from telemetry.broker.not_now import NotNow
from telemetry.decoding import last_tick, received
from telemetry.decoding.last_tick import LastTick
from telemetry.message.wire import INGEST_TASK, Batch, MessageInvalid
from telemetry.models import SetAside
from telemetry.receiving import authentic, cargo, inventory, misfit, reported
from telemetry.receiving.moving import Names, NotRead
from telemetry.store import accept
from telemetry.store.arrival import Arrival, Fate

logger = logging.getLogger(__name__)

FUTURE_MS = 60_000  # a clock further ahead than this is wrong
CLOCK_AHEAD = "the host's clock was"  # so begins the reason of what is set aside for it
_FEWEST_HOSTS = 3  # of whose clocks it can be said which one is wrong
# What one transaction may cost: a batch counts once, one that tells of its host as well, as the first after a start does,
# thrice. So a fleet that starts at once holds the database no longer than one that runs.
_MOST_COST, _COST_OF_TELLING = 200, 3


def ingest_group(payloads: Sequence[bytes], now: datetime) -> None:
    """Store what these messages of agents bring. What is refused is logged, and an event where somebody forged it.

    Raises NotNow where the server's own clock seems slow: what is set aside for it would be told as stored.
    """
    admitted, arrivals = authentic.admit_all(payloads, INGEST_TASK, now), []
    for (host, body), found in zip(admitted, received.read_last([body for _, body in admitted]), strict=True):
        try:
            arrivals.append(_arrival(host, body, found, now))
        except MessageInvalid as error:
            logger.warning("a batch was refused: %s", error)
    _check_own_clock(arrivals, now)
    for some in _parts(arrivals):
        _store(some, now)


def _parts(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Yield what is stored in one transaction, in order."""
    part: list[Arrival] = []
    cost = 0
    for arrival in arrivals:
        own = 1 if arrival.batch.software is None else _COST_OF_TELLING
        if part and cost + own > _MOST_COST:
            yield part
            part, cost = [], 0
        part.append(arrival)
        cost += own
    if part:
        yield part


def ingest(host: Host, body: bytes, now: datetime) -> bool:
    """Store a batch that `host` sent; False where none of it becomes a sample: it was stored before, or is set aside.

    Raises MessageInvalid where it has no name under which it could be set aside.
    """
    (found,) = received.read_last([body])
    arrival = _arrival(host, body, found, now)
    _store([arrival], now)
    return arrival.fate is Fate.STORED


@transaction.atomic
def take_back(host: Host, rows: Iterable[SetAside], now: datetime) -> int:
    """Store those of a host's batches that were set aside for its clock and are not ahead any more; return how many.

    For batches that came while the server's own clock was slow. What is too old by now stays where it is.
    """
    arrivals = {}
    for row in rows:
        body = bytes(row.body)
        (found,) = received.read_last([body])
        arrival = _arrival(host, body, found, now)
        if row.reason.startswith(CLOCK_AHEAD) and not arrival.aside:
            arrivals[row.pk] = arrival
    taken = accept.take_back(host, arrivals, now)
    _know(taken, now)
    return len(taken)


def _arrival(host: Host, body: bytes, found: tuple[Batch, LastTick] | MessageInvalid, now: datetime) -> Arrival:
    """Return the arrival of what was read of the body. Raises MessageInvalid where it has no name at all."""
    if isinstance(found, MessageInvalid):
        batch, last = misfit.named(body), last_tick.of_parts([], 0)
        aside = f"it does not fit: {found}"[:200]
        logger.warning("a batch of %s was set aside: %s", host.name, found)
    else:
        batch, last = found
        aside = _why_aside(batch, now)
    if batch.host != host.name:
        raise MessageInvalid(f"host: {host.name} sent a message that names {batch.host}")
    return Arrival(host, batch, last, body, aside)


def _check_own_clock(arrivals: Sequence[Arrival], now: datetime) -> None:
    """Raise NotNow where of several hosts most are ahead by more than a minute: then it is the server that is behind."""
    newest_ms: dict[int, int] = {}
    for each in arrivals:
        newest_ms[each.host.pk] = max(each.batch.times_ms[-1], newest_ms.get(each.host.pk, 0))
    ahead_ms = sorted(ms - now.timestamp() * 1000 for ms in newest_ms.values())
    n_ahead = sum(ms > FUTURE_MS for ms in ahead_ms)
    if len(ahead_ms) >= _FEWEST_HOSTS and n_ahead > len(ahead_ms) / 2:
        amount = f"{ahead_ms[len(ahead_ms) // 2] / 1000:.0f} s"
        raise NotNow(
            f"the server's own clock seems slow: of {len(ahead_ms)} hosts {n_ahead} are ahead of it, half by {amount} or more"
        )


def _why_aside(batch: Batch, now: datetime) -> str:
    """Return why the batch can be no part of any figure, "" where it can."""
    ahead_seconds = batch.times_ms[-1] / 1000 - now.timestamp()
    if ahead_seconds * 1000 > FUTURE_MS:
        return f"{CLOCK_AHEAD} {ahead_seconds:.0f} s ahead of the server's"
    if -ahead_seconds > settings.STEPWATT_RETENTION_RAW:
        return f"its samples were {-ahead_seconds / 86_400:.1f} days old when it came, older than samples are kept"
    return ""


def _store(arrivals: Sequence[Arrival], now: datetime) -> None:
    """Store the group in one transaction; where a device moves, in a second one, as there is something to read before."""
    names = Names()
    for _ in arrivals:  # of each host once at most
        try:
            _store_at_once(arrivals, now, names)
        except NotRead as missing:
            names.read(missing.host)
        else:
            return
    _store_at_once(arrivals, now, names)


@transaction.atomic
def _store_at_once(arrivals: Sequence[Arrival], now: datetime, names: Names) -> None:
    accept.accept(arrivals, now)
    _know([arrival for arrival in arrivals if arrival.fate is Fate.STORED], now, names)
    for arrival in arrivals:
        _note_clock(arrival, now)
        _note_clone(arrival, now)


def _know(stored: Sequence[Arrival], now: datetime, names: Names | None = None) -> None:
    """Keep what stored batches say of their hosts, what they report, and what they bring for others."""
    inventory.know([_told(each) for each in stored], now, names)
    inventory.read_software(
        [each.host for each in stored if each.batch.software is not None and "software" in each.tells]
    )
    for arrival in stored:
        inventory.know_host(arrival.host, arrival.batch, arrival.tells)
        if arrival.batch.events:
            reported.record_events(arrival.host, arrival.batch, now)
    cargo.hand_over([(each.host, each.batch) for each in stored], now)


def _told(arrival: Arrival) -> inventory.Told:
    batch = arrival.batch
    return inventory.Told(arrival.host, batch.devices, batch.times_ms[0], batch.times_ms[-1])


def _note_clock(arrival: Arrival, now: datetime) -> None:
    ahead_seconds = arrival.batch.times_ms[-1] / 1000 - now.timestamp()
    if arrival.fate is Fate.SET_ASIDE and arrival.aside.startswith(CLOCK_AHEAD):
        text = f"{arrival.host.name}'s clock is {ahead_seconds:.0f} s ahead of the server's: what it sends is set aside"
        events.record(EventKind.CLOCK_WRONG, now, text, host=arrival.host)


def _note_clone(arrival: Arrival, now: datetime) -> None:
    host, batch = arrival.host, arrival.batch
    detail = {"epoch": batch.epoch, "sequence": batch.sequence, "machine": batch.machine}
    if arrival.rival_epoch:
        at, text = _of_ms(batch.times_ms[0]), f"two agents send with the key of {host.name} at the same time"
        detail |= {"other_epoch": arrival.rival_epoch, "other_began_ms": arrival.rival_began_ms}
    elif arrival.fate is Fate.NUMBER_TAKEN:
        at, text = now, f"two different batches came under one number and the key of {host.name}"
    else:
        return
    events.record(EventKind.CLONED_KEY, at, text, host=host, detail=detail)


def _of_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
