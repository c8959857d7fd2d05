from django.db import migrations, models


class Migration(migrations.Migration):
    """An index by which the open alerts are found."""

    dependencies = [
        ('fleet', '0007_alerts'),
    ]

    operations = [
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['rule', 'resolved_at'], name='event_by_rule'),
        ),
    ]
