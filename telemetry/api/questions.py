"""The query parameters of telemetry's API: filters, time ranges, metrics. Called by the endpoints of telemetry and training."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

from ninja import Field, Schema
from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from fleet.api.lists import Page
from fleet.web.api_errors import ApiError, invalid
from telemetry import catalog
from telemetry.catalog import Kind, Metric
from telemetry.health import Health
from telemetry.newest.fleet_state import DeviceState, HostState
from telemetry.series.trends import MAX_POINTS

_LATEST = datetime(9999, 1, 1, tzinfo=UTC)
_DEFAULT_SPAN = timedelta(hours=1)


def moment(text: object) -> datetime:
    """Return the time that a caller wrote: ISO 8601 with its zone, or milliseconds since 1970 UTC. Raises ValueError."""
    written = str(text).strip()
    if written.isdecimal():
        milliseconds = int(written)
        if milliseconds >= _LATEST.timestamp() * 1000:
            raise ValueError(f"{written} ms lies beyond the year 9999")
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    try:
        at = datetime.fromisoformat(written)
    except ValueError:
        raise ValueError(f"{written!r} is neither ISO 8601 nor whole milliseconds since 1970") from None
    if at.tzinfo is None:
        raise ValueError(f"{written!r} names no time zone: end it with Z or +00:00 (written %2B00:00 in a URL)")
    if not datetime(1970, 1, 1, tzinfo=UTC) <= at < _LATEST:
        raise ValueError(f"{written!r} does not lie between 1970 and the year 9999")
    return at.astimezone(UTC)


def _label(text: str) -> str:
    key, separator, value = text.partition("=")
    if not (key and separator and value):
        raise ValueError(f"{text!r} is not written as key=value")
    return text


Moment = Annotated[
    datetime,
    BeforeValidator(moment),
    WithJsonSchema({"type": "string", "description": "ISO 8601 with its zone, or milliseconds since 1970 UTC"}),
]
Label = Annotated[str, AfterValidator(_label)]


class InventoryFilter(Schema):
    """Which part of the inventory. `label` is key=value and may be given more than once: all must hold."""

    cluster: str | None = None
    label: list[Label] = Field(default_factory=list)
    model: str | None = Field(None, description="A device's model, as the inventory writes it.")
    state: Health | None = None

    def takes_host(self, state: HostState) -> bool:
        return (
            self._takes_place(state)
            and (self.state is None or state.health is self.state)
            and (self.model is None or any(d.device.model == self.model for d in state.devices))
        )

    def takes_device(self, host: HostState, state: DeviceState) -> bool:
        return (
            self._takes_place(host)
            and (self.state is None or state.health is self.state)
            and (self.model is None or state.device.model == self.model)
        )

    def _takes_place(self, state: HostState) -> bool:
        wanted = [label.partition("=") for label in self.label]
        labels: Mapping[str, object] = state.host.labels
        return (self.cluster is None or state.host.cluster == self.cluster) and all(
            str(labels.get(key)) == value for key, _, value in wanted
        )


class Inventory(InventoryFilter, Page):
    """A page of a part of the inventory."""


class Span(Schema):
    """A time range; the last hour where nothing is said."""

    start: Moment | None = None
    end: Moment | None = None
    points: int = Field(600, ge=2, le=MAX_POINTS)

    def milliseconds(self, now: datetime) -> tuple[int, int]:
        """Return (start, end) in ms UTC. Raises ApiError where the range is empty."""
        end = self.end or now
        start = self.start or end - _DEFAULT_SPAN
        if start >= end:
            raise invalid("start", f"start ({start.isoformat()}) is not before end ({end.isoformat()})")
        return int(start.timestamp() * 1000), int(end.timestamp() * 1000)


def known_metric(name: str) -> Metric:
    """Return the catalogue's row. Raises ApiError."""
    metric = catalog.BY_NAME.get(name)
    if metric is None:
        known = ", ".join(catalog.BY_NAME)
        raise ApiError(400, "unknown_metric", f"{name!r} is no metric of the catalogue; it has {known}", "metric")
    return metric


def known_gauge(name: str) -> Metric:
    """Return the catalogue's row of a metric that can be averaged across devices. Raises ApiError."""
    metric = known_metric(name)
    if metric.kind is not Kind.GAUGE:
        raise invalid("metric", f"{name} is a {metric.kind}: only gauges are averaged across devices")
    return metric
