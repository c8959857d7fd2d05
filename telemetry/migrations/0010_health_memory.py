from django.db import migrations, models


class Migration(migrations.Migration):
    """What the watch over alerts must know again after a restart; thresholds of a cluster alone."""

    dependencies = [
        ('telemetry', '0009_give_back_space'),
    ]

    operations = [
        migrations.CreateModel(
            name='HealthMemory',
            fields=[
                ('scope', models.CharField(max_length=80, primary_key=True, serialize=False)),
                ('body', models.JSONField(default=dict)),
            ],
        ),
        migrations.AlterField(
            model_name='rulethreshold',
            name='name',
            field=models.CharField(help_text="The threshold's name; of a cluster alone <name>:<cluster>.", max_length=110),
        ),
    ]
