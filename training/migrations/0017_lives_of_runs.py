from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("training", "0016_distributed_schedules")]

    operations = [
        migrations.CreateModel(
            name="RunLife",
            fields=[
                (
                    "run",
                    models.OneToOneField(
                        on_delete=models.CASCADE,
                        primary_key=True,
                        related_name="life",
                        serialize=False,
                        to="training.run",
                    ),
                ),
                ("last_step_at", models.DateTimeField()),
                ("rates", models.CharField(max_length=64)),
                ("due_at", models.DateTimeField(blank=True, db_index=True, null=True)),
                ("device_hours", models.FloatField(null=True)),
                ("joules", models.FloatField(null=True)),
                ("covered_ratio", models.FloatField(null=True)),
                ("cost", models.FloatField(null=True)),
                ("busy_ratio", models.FloatField(null=True)),
                ("idle_energy_ratio", models.FloatField(null=True)),
                ("why_not_idle", models.TextField(default="")),
                ("mfu_ratio", models.FloatField(null=True)),
                ("goodput_ratio", models.FloatField(null=True)),
                ("per_joule", models.FloatField(null=True)),
                ("per_joule_unit", models.CharField(default="", max_length=40)),
                ("why", models.TextField(default="")),
                ("part_seconds", models.FloatField(null=True)),
                ("trend", models.JSONField(default=list)),
            ],
        ),
        migrations.CreateModel(
            name="FleetMfu",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("minute_ms", models.BigIntegerField(help_text="When the minute began, UTC milliseconds.")),
                ("cluster", models.CharField(blank=True, default="", max_length=63)),
                ("weighted", models.FloatField()),
                ("ranks", models.PositiveIntegerField()),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("minute_ms", "cluster"), name="mfu_once_a_minute")
                ],
            },
        ),
    ]
