"""`manage.py document_metrics [--write]`: docs/metrics.md from the catalogue and the exposition's own families."""

from argparse import ArgumentParser
from collections.abc import Iterable, Sequence

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils import timezone

from telemetry import dcgm, exposition
from telemetry.catalog import METRICS, AbsentReason, Metric
from telemetry.exposition import Names
from telemetry.queries import FleetState
from telemetry.textformat import Family, Type

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

A reading that is absent has no sample: missing is never zero. A host that went silent keeps `stepwatt_host_up` at 0, and
all series of its devices end. So do those of a host whose telemetry was imported, since it has no present.
"""
_READINGS = """\
## Readings of a device

Under the own names, in base units, with the labels {labels}. NVIDIA devices also have them under
dcgm-exporter's names, with its units and its labels (`gpu`, `UUID`, `pci_bus_id`, `device`, `modelName`, `Hostname`,
`DCGM_FI_DRIVER_VERSION`), so that dashboards and alert rules made for it work unchanged; some of its versions write
`hostname`, which `STEPWATT_DCGM_HOSTNAME_LABEL=hostname` does too. OpenMetrics has no counter without `_total`: there
DCGM's counters are of type unknown, with their names kept.
"""
_OTHERS = """\
## Hosts, agents, jobs and runs
"""
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
    families = exposition.families(FleetState(timezone.now(), []), [Names.STEPWATT])
    readings = {exposition.own_family(metric).name for metric in METRICS}
    others = [family for family in families if family.name not in readings]
    labels = ", ".join(f"`{name}`" for name in exposition.DEVICE_LABELS)
    return "\n".join(
        (
            _INTRODUCTION,
            _READINGS.format(labels=labels),
            _table(("name", "type", "unit", "DCGM name", "what it is"), (_reading(metric) for metric in METRICS)),
            _OTHERS,
            _table(("name", "type", "labels", "what it is"), (_family(family) for family in others)),
            _ABSENT,
            _table(("reason", "what it means"), ((f"`{r.value}`", r.sentence) for r in AbsentReason)),
        )
    )


def _reading(metric: Metric) -> Sequence[str]:
    family = exposition.own_family(metric)
    foreign = f"`{metric.dcgm_name}`" if metric.dcgm_name else "–"
    unit = dcgm.unit(metric)
    in_unit = f" ({unit})" if metric.dcgm_name and unit else ""
    return f"`{family.sample_name}`", family.type.value[0], metric.unit, foreign + in_unit, metric.help


def _family(family: Family) -> Sequence[str]:
    kind = "info" if family.type is Type.INFO else family.type.value[0]
    return f"`{family.sample_name}`", kind, ", ".join(f"`{name}`" for name in family.labels), family.help


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
