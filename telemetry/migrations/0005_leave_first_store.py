"""The first store is left: its rollups go, which are made again from its batches; these are kept aside until 0007."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0004_newest_sequence")]
    operations = [
        migrations.DeleteModel("MinuteRollup"),
        migrations.DeleteModel("DirtyMinute"),
        migrations.RenameModel("Chunk", "FirstBatch"),
    ]
