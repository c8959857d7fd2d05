"""A host's newest readings become text, which no database looks into: they are read and written whole."""

from django.db import migrations, models

from telemetry import vendor_sql


def keep_in_place(apps, schema_editor):
    vendor_sql.keep_latest_in_place()


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0014_device_price")]
    operations = [
        migrations.AlterField("lateststate", "devices", models.TextField()),
        migrations.AlterField("lateststate", "processes", models.TextField(default=dict)),
        migrations.RunPython(keep_in_place, migrations.RunPython.noop),
    ]
