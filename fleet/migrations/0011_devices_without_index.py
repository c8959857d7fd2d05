from django.db import migrations, models


def number_them(apps, schema_editor):
    apps.get_model('fleet', 'Device').objects.filter(index=None).update(index=0)


class Migration(migrations.Migration):
    """A recording may not tell a device's index: then none is known, and it is not the first one."""

    dependencies = [
        ('fleet', '0010_events_of_several_hosts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='device',
            name='index',
            field=models.PositiveIntegerField(help_text='None where a recording does not tell it.', null=True),
        ),
        migrations.RunPython(migrations.RunPython.noop, number_them),
    ]
