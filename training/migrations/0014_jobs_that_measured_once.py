"""Jobs of before measured their steps once: their parameters say so, as those of new jobs do, so that they stay comparable."""

from collections.abc import Callable
from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_AT_ONCE = 500


def _change(apps: Apps, change: Callable[[dict[str, Any]], object]) -> None:
    jobs = apps.get_model("training", "ReferenceJob").objects
    pks = list(jobs.order_by("pk").values_list("pk", flat=True))
    for first in range(0, len(pks), _AT_ONCE):
        rows = list(jobs.filter(pk__in=pks[first : first + _AT_ONCE]).only("params"))
        for row in rows:
            change(row.params)
        jobs.bulk_update(rows, ["params"])


def forwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _change(apps, lambda params: params.setdefault("repeats", 1))


def backwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    _change(apps, lambda params: params.pop("repeats", None))


class Migration(migrations.Migration):
    dependencies = [("training", "0013_teams")]

    operations = [migrations.RunPython(forwards, backwards)]
