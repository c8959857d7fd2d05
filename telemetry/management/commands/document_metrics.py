"""`manage.py document_metrics [--write]`: docs/metrics.md from the catalogue and the exposition's own families."""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from telemetry.catalog import METRICS, AbsentReason, Metric
from telemetry.exposition import dcgm, own_names
from telemetry.exposition.textformat import Family, Type

FILE = settings.BASE_DIR / "docs" / "metrics.md"

_INTRODUCTION = """\
# Metrics

This page is generated: `manage.py document_metrics --write`.

`/metrics` on the server tells the newest readings of the whole fleet to Prometheus, in the text format or in
OpenMetrics as the scraper asks. `?names=stepwatt` or `?names=dcgm` gives one of the two namings, `?host=NAME` one host.
It wants a bearer token (`manage.py create_token prometheus --role viewer`) or a signed-in session; with
`STEPWATT_METRICS_ANONYMOUS=true` anybody may read it.

```yaml
scrape_configs:
  - job_name: stepwatt
    authorization: {credentials_file: /etc/prometheus/stepwatt-token}
    static_configs: [{targets: ["stepwatt.example:8000"]}]
```

Or one target per host, so that `up` and `instance` speak of hosts; labels of a host become series' labels by relabelling:

```yaml
scrape_configs:
  - job_name: stepwatt
    authorization: {credentials_file: /etc/prometheus/stepwatt-token}
    http_sd_configs:
      - url: http://stepwatt.example:8000/api/v1/prometheus/sd
        authorization: {type: Bearer, credentials_file: /etc/prometheus/stepwatt-token}  # old versions need the type here
    relabel_configs:
      - {source_labels: [__meta_stepwatt_label_rack], target_label: rack}
```

Every target is this server with `?host=NAME`, and has `instance` set to the host, `__meta_stepwatt_host`,
`__meta_stepwatt_cluster`, `__meta_stepwatt_origin` and `__meta_stepwatt_label_<key>`. Where `STEPWATT_PUBLIC_URL` is set,
targets are named by it.

A reading that is absent has no sample: missing is never zero. A host that went silent keeps `stepwatt_host_up` at 0, and
all series of its devices end. So do those of a host whose telemetry was imported, since it has no present.

Bodies are made in a thread of their own, from what has changed since the last scrape; gzip is sent where the scraper takes it.
"""
_READINGS = """\
## Readings of a device

Under the own names, in base units, with the labels {labels}. NVIDIA devices also have them under
dcgm-exporter's names, with its units and its labels (`gpu`, `UUID`, `pci_bus_id`, `device`, `modelName`, `Hostname`,
`DCGM_FI_DRIVER_VERSION`), so that dashboards and alert rules made for it work unchanged; its newer versions write
`hostname`, which `STEPWATT_DCGM_HOSTNAME_LABEL=hostname` does too. A MIG instance has its GPU's labels with `GPU_I_PROFILE` and
`GPU_I_ID` beside them; `DCGM_FI_DEV_XID_ERRORS` has `err_code` and `err_msg`. OpenMetrics has no counter without `_total`:
there DCGM's counters are of type unknown, with their names kept. `DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL` is a rate, though
dcgm-exporter calls it a counter. The host as a whole, its agent's own cost among it, is a device of kind `node`.
"""
_OTHERS = """\
## Hosts, agents, jobs and runs
"""
_COLUMNS = ("name", "type", "unit", "what it is", "source", "OpenTelemetry", "DCGM", "its unit")
_ABSENT = """\
## Why a reading may be absent
"""


class Command(BaseCommand):
    help = "Print the documentation of all metrics; --write puts it into docs/metrics.md."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--write", action="store_true", help="write docs/metrics.md instead of printing")

    def handle(self, *, write: bool, **_: object) -> None:
        if write:
            FILE.write_text(document())
        else:
            self.stdout.write(document(), ending="")


def document() -> str:
    """Return the page."""
    readings = {own_names.own_family(metric).name for metric in METRICS}
    families = [*own_names.FAMILIES, *own_names.others([], timezone.now())]
    others = [family for family in families if family.name not in readings]
    labels = ", ".join(f"`{name}`" for name in own_names.DEVICE_LABELS)
    return "\n".join(
        (
            _INTRODUCTION,
            _READINGS.format(labels=labels),
            _table(_COLUMNS, (_reading(metric) for metric in METRICS)),
            _OTHERS,
            _table(("name", "type", "labels", "what it is"), (_family(family) for family in others)),
            _ABSENT,
            _table(("reason", "what it means"), ((f"`{r.value}`", r.sentence) for r in AbsentReason)),
        )
    )


def _reading(metric: Metric) -> Sequence[str]:
    family = own_names.own_family(metric)
    foreign = [f"`{name}`" if name else "–" for name in (metric.otel_name, metric.dcgm_name)]
    dcgm_unit = dcgm.unit(metric) if metric.dcgm_name else ""
    return (
        f"`{family.sample_name}`", family.type.value[0], metric.unit, metric.help, metric.source, *foreign, dcgm_unit or "–",
    )  # fmt: skip


def _family(family: Family) -> Sequence[str]:
    kind = "info" if family.type is Type.INFO else family.type.value[0]
    return f"`{family.sample_name}`", kind, ", ".join(f"`{name}`" for name in family.labels), family.help


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
