"""A host's list of earlier keys takes the place of the one key before the present."""

from datetime import UTC, datetime

from django.db import migrations, models


def keep_previous(apps, schema_editor):
    """A host that was rotated keeps its key of before in the list."""
    for host in apps.get_model("fleet", "Host").objects.exclude(rotated_at=None):
        replaced_ms = int(host.rotated_at.timestamp() * 1000)
        host.earlier_keys = [{"key": bytes(host.previous_key).hex(), "replaced_ms": replaced_ms}]
        host.save(update_fields=["earlier_keys"])


def take_previous(apps, schema_editor):
    """The newest of the list is the key of before again."""
    for host in apps.get_model("fleet", "Host").objects.exclude(earlier_keys=[]):
        newest = host.earlier_keys[0]
        host.previous_key = bytes.fromhex(newest["key"])
        host.rotated_at = datetime.fromtimestamp(newest["replaced_ms"] / 1000, UTC)
        host.save(update_fields=["previous_key", "rotated_at"])


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0005_device_and_clock_events'),
    ]

    operations = [
        migrations.AddField(
            model_name='host',
            name='earlier_keys',
            field=models.JSONField(blank=True, default=list, help_text='The keys that it rotated away from, newest first: [{key: hex, replaced_ms}]; joining clears them.'),
        ),
        migrations.AddField(
            model_name='host',
            name='key_used_at',
            field=models.DateTimeField(blank=True, help_text='When the first message under its present key came after a rotation: its agent has that key.', null=True),
        ),
        migrations.RunPython(keep_previous, take_previous),
        migrations.RemoveField(
            model_name='host',
            name='previous_key',
        ),
        migrations.RemoveField(
            model_name='host',
            name='rotated_at',
        ),
    ]
