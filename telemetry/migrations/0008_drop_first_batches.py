"""The first store's table goes: its batches are kept."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0007_keep_first_batches")]
    operations = [migrations.DeleteModel("FirstBatch")]
