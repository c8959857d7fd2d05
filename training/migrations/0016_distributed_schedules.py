from django.db import migrations, models


class Migration(migrations.Migration):
    """Schedules whose jobs are the ranks of one."""

    dependencies = [
        ('training', '0015_later_parameters_last'),
    ]

    operations = [
        migrations.AddField(
            model_name='schedule',
            name='as_one',
            field=models.BooleanField(default=False),
        ),
    ]
