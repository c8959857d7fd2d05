"""When the software and the topology that are kept of a host were told."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('telemetry', '0002_processes_and_epochs'),
    ]

    operations = [
        migrations.AddField(
            model_name='lateststate',
            name='software_ms',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='lateststate',
            name='topology_ms',
            field=models.BigIntegerField(default=0),
        ),
    ]
