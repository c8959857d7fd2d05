"""Up to when the disk limit let samples go: what is younger is whole, and late batches are welcome there."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0012_set_aside_by_content")]

    operations = [
        migrations.CreateModel(
            name="Shortened",
            fields=[
                ("table", models.CharField(max_length=60, primary_key=True, serialize=False)),
                ("before_ms", models.BigIntegerField()),
            ],
        ),
    ]
