from django.db import migrations, models


class Migration(migrations.Migration):
    """Nearly every job has no team: an index of those that have none led SQLite through all jobs."""

    dependencies = [("training", "0017_lives_of_runs")]

    operations = [
        migrations.AlterField(
            model_name="referencejob",
            name="team",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=models.deletion.CASCADE,
                related_name="jobs",
                to="training.team",
            ),
        ),
        migrations.AddIndex(
            model_name="referencejob",
            index=models.Index(condition=models.Q(team__isnull=False), fields=["team"], name="job_of_team"),
        ),
    ]
