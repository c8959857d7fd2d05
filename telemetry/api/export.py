"""Export of a device's or a host's series as a file that comes piece by piece. Registered by telemetry/api/router.py."""

from collections.abc import Sequence
from datetime import datetime

from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from ninja import Field, Query, Schema

from fleet.models import Device, Host
from fleet.web.api_errors import ApiError, invalid
from fleet.web.streamed_file import streamed_file
from telemetry.api.questions import Moment, known_metric
from telemetry.series import export
from telemetry.series.export import Resolution
from telemetry.series.export_formats import Format, stream


class ExportQuestion(Schema):
    metric: list[str] = Field(min_length=1, description="May be given more than once.")
    start: Moment
    end: Moment | None = None
    format: Format = Format.CSV
    resolution: Resolution = Resolution.RAW

    def milliseconds(self, now: datetime) -> tuple[int, int]:
        """Return (start, end) in ms UTC. Raises ApiError where the range is empty."""
        end = self.end or now
        if self.start >= end:
            raise invalid("start", f"start ({self.start.isoformat()}) is not before end ({end.isoformat()})")
        return int(self.start.timestamp() * 1000), int(end.timestamp() * 1000)


def of_device(request: HttpRequest, uuid: str, asked: Query[ExportQuestion]) -> StreamingHttpResponse:
    """Export metrics of a device, as they were sampled or as rollups."""
    found = Device.objects.select_related("host").filter(uuid=uuid).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no device {uuid}", "uuid")
    return _answer(request, [found], asked, found.uuid)


def of_host(request: HttpRequest, name: str, asked: Query[ExportQuestion]) -> StreamingHttpResponse:
    """Export metrics of all devices of a host."""
    found = Host.objects.filter(name=name).first()
    if found is None:
        raise ApiError(404, "not_found", f"there is no host named {name!r}", "name")
    return _answer(request, list(found.devices.select_related("host")), asked, found.name)


def _answer(request: HttpRequest, devices: Sequence[Device], asked: ExportQuestion, name: str) -> StreamingHttpResponse:
    metrics = [known_metric(each) for each in dict.fromkeys(asked.metric)]
    start_ms, end_ms = asked.milliseconds(timezone.now())
    pieces = export.pieces(devices, metrics, start_ms, end_ms, asked.resolution)
    parts = stream(asked.format, pieces, export.column_names(metrics, asked.resolution))
    return streamed_file(request, f"{name}.{asked.format}", asked.format.content_type, parts)
