from django.db import migrations, models


class Migration(migrations.Migration):
    """Alerts about several hosts together name each of them."""

    dependencies = [
        ('fleet', '0009_alert_index'),
    ]

    operations = [
        migrations.AddField(
            model_name='event',
            name='hosts',
            field=models.ManyToManyField(blank=True, related_name='+', to='fleet.host'),
        ),
    ]
