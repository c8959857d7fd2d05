"""Which batch of the agent's life the newest readings come from: its order, unlike its times, no clock can turn round."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telemetry', '0003_times_of_what_was_told'),
    ]

    operations = [
        migrations.AddField(
            model_name='lateststate',
            name='sequence',
            field=models.BigIntegerField(default=-1),
        ),
    ]
