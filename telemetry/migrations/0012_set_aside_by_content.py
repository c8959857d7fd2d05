"""Batches of one number with different content are all set aside: the content's digest joins their unique key."""

from hashlib import sha256

from django.db import migrations, models


def note_digests(apps, schema_editor):
    rows = apps.get_model("telemetry", "SetAside").objects
    for pk in list(rows.values_list("pk", flat=True)):  # one body in memory at a time: each may have megabytes
        body = rows.values_list("body", flat=True).get(pk=pk)
        rows.filter(pk=pk).update(digest=sha256(bytes(body)).hexdigest())


class Migration(migrations.Migration):
    dependencies = [("telemetry", "0011_health_and_figures")]

    operations = [
        migrations.AddField(
            model_name="setaside",
            name="digest",
            field=models.CharField(default="", help_text="Of the body: digest_of.", max_length=64),
        ),
        migrations.RunPython(note_digests, migrations.RunPython.noop),
        migrations.RemoveConstraint(model_name="setaside", name="set_aside_once"),
        migrations.AddConstraint(
            model_name="setaside",
            constraint=models.UniqueConstraint(fields=("host", "epoch", "sequence", "digest"), name="set_aside_once"),
        ),
    ]
