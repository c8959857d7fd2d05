"""Rules of a host and its agent. Data for rules.py; pure."""

from fleet import units
from fleet.models import Severity
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.seen import HostSeen


def _silent(host: HostSeen, limits: Limits) -> Sign | None:
    if not host.is_silent:
        return None
    if not host.is_watched:
        return UNKNOWN
    last = host.host.last_seen_at
    if last is None:
        return raised("silent, no sample yet")
    return raised(f"no sample since {units.utc(last)}", {"last_sample_ms": int(last.timestamp() * 1000)})


def _dropping(host: HostSeen, limits: Limits) -> Sign | None:
    node = host.node
    dropped = node.grown.get("agent_batches_dropped_total") if node else None
    if node is None or dropped is None:
        return UNKNOWN
    if dropped < limits["batches_per_hour"]:
        return None
    return raised(
        f"its agent gave up {dropped:.0f} batches in the last hour",
        {"batches_per_hour": dropped, "agent_batches_spooled": node.values.get("agent_batches_spooled")},
    )


def _lagging(host: HostSeen, limits: Limits) -> Sign | None:
    """How old its newest sample was when it was stored; by the host's clock, set right where its error is known."""
    if host.host.heard_at is None or host.is_silent:
        return UNKNOWN
    offset = host.node.values.get("host_clock_offset_seconds", 0.0) if host.node else 0.0
    age = host.host.heard_at.timestamp() - (host.at_ms / 1000 + offset)
    if age >= limits["seconds"]:
        spooled = host.node.values.get("agent_batches_spooled") if host.node else None
        words = f"its newest sample was {units.duration(age)} old when it came"
        return raised(words, {"sample_age_seconds": round(age, 1), "agent_batches_spooled": spooled})
    return BETWEEN if age > limits["clear_seconds_old"] else None


def _cannot_spool(host: HostSeen, limits: Limits) -> Sign | None:
    values = host.node.values if host.node else {}
    failed = values.get("agent_spool_failed")
    if failed is None:
        return UNKNOWN
    if not failed:
        return None
    proof = {name: values.get(name) for name in ("agent_batches_spooled", "agent_spool_bytes")}
    return raised("its agent cannot write its spool: batches wait in memory", proof)


def _skewed(host: HostSeen, limits: Limits) -> Sign | None:
    """What the measurement's own error could explain does not count."""
    values = host.node.values if host.node else {}
    offset, error = values.get("host_clock_offset_seconds"), values.get("host_clock_error_seconds")
    if offset is None or error is None:
        return UNKNOWN
    beyond_doubt = abs(offset) - error
    if beyond_doubt >= limits["offset_seconds"]:
        words = f"its clock is {units.duration(abs(offset))} {'ahead of' if offset < 0 else 'behind'} the server's"
        return raised(words, {"host_clock_offset_seconds": offset, "host_clock_error_seconds": error})
    return BETWEEN if beyond_doubt > limits["clear_offset_seconds"] else None


RULES = (
    Rule(
        "host_silent", "Host silent", Severity.CRITICAL, "When its newest batch was stored",
        "see whether host and network are up, then its agent (systemctl status stepwatt-agent)", _silent,
        scope=Scope.HOST, clear_seconds=30,
    ),
    Rule(
        "agent_dropping", "Agent drops samples", Severity.WARNING, "Batches that the agent dropped within an hour",
        "see why it cannot send: broker, network, disk of the host; give its spool more room", _dropping,
        scope=Scope.HOST, own_thresholds=(Threshold("batches_per_hour", "batches in an hour from", "batches", 1, 1, 1e6),),
    ),
    Rule(
        "spool_failed", "Spool cannot be written", Severity.WARNING, "Whether the agent can write its spool",
        "see the disk of the host: full, read-only or broken; what waits in memory is lost when the agent ends", _cannot_spool,
        scope=Scope.HOST, for_seconds=20,
    ),
    Rule(
        "agent_lagging", "Agent lags", Severity.WARNING, "Age of the newest sample when it was stored",
        "see /readyz for the server's own lag, then the host's network and load; a backlog after an outage passes", _lagging,
        scope=Scope.HOST,
        own_thresholds=(
            Threshold("seconds", "newest sample older than", "seconds", 60, 5, 86_400),
            Threshold("clear_seconds_old", "clear up to", "seconds", 30, 1, 86_400),
        ),
        for_seconds=60,
    ),
    Rule(
        "clock_skewed", "Clock skewed", Severity.WARNING, "How far the host's clock is off, less the error of that",
        "let the host follow a time server (chronyc tracking; timedatectl)", _skewed,
        scope=Scope.HOST,
        own_thresholds=(
            Threshold("offset_seconds", "off by", "seconds", 2, 0.1, 3600),
            Threshold("clear_offset_seconds", "clear up to", "seconds", 1, 0.05, 3600),
        ),
        for_seconds=60,
    ),
)  # fmt: skip
