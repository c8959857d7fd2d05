"""Events of devices that move, of clocks, and of orders that a host cannot obey; counts that no fault can overflow."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0004_rotation_and_join_attempts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('xid', 'XID error'), ('clock', 'clock change'), ('driver_released', 'driver let go'), ('driver_resumed', 'driver taken up'), ('software_changed', 'software changed'), ('clock_wrong', "clock ahead of the server's"), ('device_moved', 'device moved to another host'), ('device_claimed', 'device claimed by a second host'), ('host_joined', 'host joined'), ('host_removed', 'host removed'), ('key_rotated', 'key rotated'), ('foreign_message', 'message of an unknown host refused'), ('forged_message', 'message with a wrong signature refused'), ('replayed_message', 'message repeated'), ('forged_order', 'order with a wrong signature refused by the host'), ('replayed_order', 'order repeated, refused by the host'), ('order_refused', 'order that the host cannot obey'), ('cloned_key', 'two agents use one key'), ('cloned_machine', 'two hosts have one machine id'), ('join_refused', 'join refused')], max_length=20),
        ),
        migrations.AlterField(
            model_name='event',
            name='count',
            field=models.PositiveBigIntegerField(default=1),
        ),
    ]
