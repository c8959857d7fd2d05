"""docs/metrics.md is what the catalogue says."""

from io import StringIO

from django.core.management import call_command

from telemetry.catalog import METRICS
from telemetry.management.commands.document_metrics import FILE, document


def test_the_page_is_the_generated_one() -> None:
    assert FILE.read_text() == document(), "run `manage.py document_metrics --write`"


def test_every_metric_is_on_it() -> None:
    text = document()
    assert [m.name for m in METRICS if f"`stepwatt_{m.name}`" not in text] == []


def test_training_families_are_on_it() -> None:
    assert "`stepwatt_training_step_seconds`" in document()


def test_the_command_prints_it() -> None:
    out = StringIO()
    call_command("document_metrics", stdout=out)
    assert out.getvalue() == document()
