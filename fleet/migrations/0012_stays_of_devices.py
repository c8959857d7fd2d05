from django.db import migrations, models
from django.db.models import CASCADE

MOVED = 'device_moved'


def tell_stays(apps, schema_editor):
    """Make stays of the events that tell of moves; those of a host that is no more are gone with it."""
    Host, Device, DeviceStay, Event = (
        apps.get_model('fleet', name) for name in ('Host', 'Device', 'DeviceStay', 'Event')
    )
    hosts = dict(Host.objects.values_list('name', 'pk'))
    stays = {}
    moves = Event.objects.filter(kind=MOVED, device__isnull=False, host__isnull=False).order_by('first_at', 'pk')
    for event in moves:
        of_device = stays.setdefault(event.device_id, {})
        before = hosts.get(event.detail.get('other_host'))
        if not of_device and before is not None:
            of_device[0] = before
        of_device[round(event.first_at.timestamp() * 1000)] = event.host_id
    present = dict(Device.objects.filter(pk__in=stays).values_list('pk', 'host_id'))
    for device, of_device in stays.items():
        newest = max(of_device)
        of_device[newest] = present[device]
        DeviceStay.objects.bulk_create(
            DeviceStay(device_id=device, host_id=host, from_ms=at) for at, host in sorted(of_device.items())
        )
        Device.objects.filter(pk=device).update(moved_ms=newest)


class Migration(migrations.Migration):
    """When a device was with which host is kept beside it, and not looked up among events, which are retired."""

    dependencies = [
        ('fleet', '0011_devices_without_index'),
    ]

    operations = [
        migrations.AddField(
            model_name='device',
            name='moved_ms',
            field=models.BigIntegerField(help_text='From when on it is with its host, UTC milliseconds; None where it was with no other before.', null=True),
        ),
        migrations.CreateModel(
            name='DeviceStay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('from_ms', models.BigIntegerField(help_text='UTC milliseconds.')),
                ('device', models.ForeignKey(db_index=False, on_delete=CASCADE, related_name='stays', to='fleet.device')),
                ('host', models.ForeignKey(on_delete=CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('device', 'from_ms'), name='stay_once')],
            },
        ),
        migrations.RunPython(tell_stays, migrations.RunPython.noop),
    ]
