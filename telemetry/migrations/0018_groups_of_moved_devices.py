from django.db import migrations


def make_again(apps, schema_editor):
    """Mark all that is kept of the clusters and labels of hosts that devices have come to."""
    Stay = apps.get_model('fleet', 'DeviceStay')
    Members, Group, Rollup, Dirty = (
        apps.get_model('telemetry', name) for name in ('GroupMembers', 'RollupGroup', 'GroupRollup', 'DirtyGroup')
    )
    hosts = Stay.objects.order_by().values('host')
    told = Members.objects.filter(host_id__in=hosts).values_list('devices', flat=True)
    groups = {int(group) for devices in told for group in devices}
    for group in Group.objects.filter(pk__in=groups, kind__in=['cluster', 'label']):
        rows = Rollup.objects.filter(group=group).values_list('step_seconds', 'start_ms', 'n_buckets')
        Dirty.objects.bulk_create(
            (
                Dirty(group=group, step_seconds=step, start_ms=start_ms + 1000 * step * at)
                for step, start_ms, n in rows for at in range(n)
            ),
            ignore_conflicts=True,
            batch_size=500,
        )


class Migration(migrations.Migration):
    """What a device did before it moved counts in the groups of the host of then: those of its later one are made again."""

    dependencies = [
        ('fleet', '0012_stays_of_devices'),
        ('telemetry', '0017_unreadable'),
    ]

    operations = [
        migrations.RunPython(make_again, migrations.RunPython.noop),
    ]
