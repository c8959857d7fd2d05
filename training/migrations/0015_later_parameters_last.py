"""Jobs' parameters in the one order in which new jobs have them: what came later stands last.

SQLite compares JSON as text: jobs in another order are no history of those to come. PostgreSQL keeps an order of its own, and
loses nothing.
"""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

_LATER = "repeats"
_AT_ONCE = 500


def forwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    jobs = apps.get_model("training", "ReferenceJob").objects
    pks = list(jobs.order_by("pk").values_list("pk", flat=True))
    for first in range(0, len(pks), _AT_ONCE):
        rows = list(jobs.filter(pk__in=pks[first : first + _AT_ONCE]).only("params"))
        others = [row for row in rows if _LATER in row.params and list(row.params)[-1] != _LATER]
        for row in others:
            row.params[_LATER] = row.params.pop(_LATER)
        jobs.bulk_update(others, ["params"])


class Migration(migrations.Migration):
    dependencies = [("training", "0014_jobs_that_measured_once")]

    operations = [migrations.RunPython(forwards, migrations.RunPython.noop)]
