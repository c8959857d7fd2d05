"""The first store goes: its batches, and the minute rollups made of them."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0004_newest_sequence")]
    operations = [
        migrations.DeleteModel("Chunk"),
        migrations.DeleteModel("MinuteRollup"),
        migrations.DeleteModel("DirtyMinute"),
    ]
