from django.db import migrations, models


class Migration(migrations.Migration):
    """A host that was removed is none from then on, while what it measured goes a slice at a time."""

    dependencies = [
        ('fleet', '0012_stays_of_devices'),
    ]

    operations = [
        migrations.AddField(
            model_name='host',
            name='removed_at',
            field=models.DateTimeField(blank=True, help_text='Since when it is none any more; what it measured goes a slice at a time.', null=True),
        ),
        migrations.AddField(
            model_name='device',
            name='removed_at',
            field=models.DateTimeField(blank=True, help_text="As its host's.", null=True),
        ),
    ]
