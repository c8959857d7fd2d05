"""The store: batches, chunks, rollups (on PostgreSQL in partitions by time), what was accepted, and alerts' settings."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

from telemetry.migrations._partitioned import CreatePartitionedModel


class Migration(migrations.Migration):

    dependencies = [
        ('fleet', '0007_alerts'),
        ('telemetry', '0005_leave_first_store'),
    ]

    operations = [
        migrations.CreateModel(
            name='MaintenanceRun',
            fields=[
                ('name', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('started_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('seconds', models.FloatField(default=0)),
                ('done', models.PositiveBigIntegerField(default=0, help_text='Rows made or removed by that run.')),
                ('note', models.CharField(blank=True, default='', max_length=500)),
            ],
        ),
        migrations.CreateModel(
            name='NotificationTarget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True)),
                ('kind', models.CharField(choices=[('webhook', 'webhook'), ('email', 'e-mail')], max_length=7)),
                ('address', models.CharField(max_length=1000)),
                ('secret', models.CharField(blank=True, default='', help_text="Signs a webhook's body (HMAC-SHA256).", max_length=200)),
                ('severity', models.CharField(choices=[('info', 'info'), ('warning', 'warning'), ('critical', 'critical')], default='warning', max_length=8)),
                ('is_enabled', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        CreatePartitionedModel(
            name='Rollup',
            fields=[
                ('pk', models.CompositePrimaryKey('host_id', 'step_seconds', 'start_ms', 'n_buckets', blank=True, editable=False, primary_key=True, serialize=False)),
                ('step_seconds', models.PositiveSmallIntegerField()),
                ('start_ms', models.BigIntegerField()),
                ('n_buckets', models.PositiveSmallIntegerField()),
                ('body', models.BinaryField()),
                ('host', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
        ),
        migrations.CreateModel(
            name='RollupGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('fleet', 'fleet'), ('cluster', 'cluster'), ('model', 'model'), ('label', 'label')], max_length=7)),
                ('key', models.CharField(blank=True, default='', max_length=63)),
                ('value', models.CharField(blank=True, default='', max_length=500)),
                ('devices', models.CharField(max_length=11)),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('kind', 'key', 'value', 'devices'), name='group_once')],
            },
        ),
        migrations.CreateModel(
            name='GroupRollup',
            fields=[
                ('pk', models.CompositePrimaryKey('group_id', 'step_seconds', 'start_ms', 'n_buckets', blank=True, editable=False, primary_key=True, serialize=False)),
                ('step_seconds', models.PositiveSmallIntegerField()),
                ('start_ms', models.BigIntegerField()),
                ('n_buckets', models.PositiveSmallIntegerField()),
                ('body', models.BinaryField()),
                ('group', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='telemetry.rollupgroup')),
            ],
        ),
        migrations.CreateModel(
            name='RuleThreshold',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule', models.CharField(max_length=60)),
                ('name', models.CharField(max_length=40)),
                ('value', models.FloatField()),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('rule', 'name'), name='threshold_once')],
            },
        ),
        migrations.CreateModel(
            name='Silence',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('rule', models.CharField(blank=True, default='', max_length=60)),
                ('label_key', models.CharField(blank=True, default='', max_length=63)),
                ('label_value', models.CharField(blank=True, default='', max_length=500)),
                ('comment', models.CharField(max_length=500)),
                ('created_by', models.CharField(max_length=150)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('starts_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('ends_at', models.DateTimeField(db_index=True)),
                ('host', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'ordering': ['-ends_at', '-pk'],
            },
        ),
        CreatePartitionedModel(
            name='StoredBatch',
            fields=[
                ('pk', models.CompositePrimaryKey('host_id', 'start_ms', 'epoch', 'sequence', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start_ms', models.BigIntegerField()),
                ('epoch', models.CharField(max_length=32)),
                ('sequence', models.BigIntegerField()),
                ('end_ms', models.BigIntegerField()),
                ('body', models.BinaryField()),
                ('host', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
        ),
        migrations.CreateModel(
            name='AcceptedSequences',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('epoch', models.CharField(max_length=32)),
                ('ranges', models.JSONField(default=list)),
                ('newest_sequence', models.BigIntegerField(default=-1)),
                ('newest_sent_ms', models.BigIntegerField(default=0, help_text="By the host's clock.")),
                ('newest_received_ms', models.BigIntegerField(default=0, help_text="By the server's clock.")),
                ('changed_at', models.DateTimeField(db_index=True)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('host', 'epoch'), name='sequences_once')],
            },
        ),
        CreatePartitionedModel(
            name='Chunk',
            fields=[
                ('pk', models.CompositePrimaryKey('device_id', 'start_ms', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start_ms', models.BigIntegerField(help_text="The hour's beginning, UTC milliseconds.")),
                ('end_ms', models.BigIntegerField(help_text='The newest sample.')),
                ('n_values', models.PositiveIntegerField()),
                ('body', models.BinaryField()),
                ('device', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.device')),
                ('host', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'indexes': [models.Index(fields=['host', 'start_ms'], name='chunk_by_host')],
            },
        ),
        migrations.CreateModel(
            name='DirtyRollup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('step_seconds', models.PositiveSmallIntegerField()),
                ('start_ms', models.BigIntegerField()),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'indexes': [models.Index(fields=['step_seconds', 'start_ms'], name='dirty_rollup_by_time')],
                'constraints': [models.UniqueConstraint(fields=('host', 'step_seconds', 'start_ms'), name='dirty_rollup_once')],
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(choices=[('firing', 'firing'), ('resolved', 'resolved')], max_length=8)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField(blank=True, db_index=True, help_text='None: delivered or given up.', null=True)),
                ('delivered_at', models.DateTimeField(blank=True, null=True)),
                ('error', models.CharField(blank=True, default='', help_text='Of the last attempt that failed.', max_length=500)),
                ('event', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.event')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='telemetry.notificationtarget')),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [models.UniqueConstraint(fields=('target', 'event', 'reason'), name='delivery_once')],
            },
        ),
        migrations.CreateModel(
            name='DirtyGroup',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('step_seconds', models.PositiveSmallIntegerField()),
                ('start_ms', models.BigIntegerField()),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='telemetry.rollupgroup')),
            ],
            options={
                'indexes': [models.Index(fields=['step_seconds', 'start_ms'], name='dirty_group_by_time')],
                'constraints': [models.UniqueConstraint(fields=('group', 'step_seconds', 'start_ms'), name='dirty_group_once')],
            },
        ),
        migrations.CreateModel(
            name='SetAside',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('epoch', models.CharField(max_length=32)),
                ('sequence', models.BigIntegerField()),
                ('start_ms', models.BigIntegerField()),
                ('end_ms', models.BigIntegerField()),
                ('n_values', models.PositiveIntegerField()),
                ('reason', models.CharField(max_length=200)),
                ('received_at', models.DateTimeField(db_index=True)),
                ('body', models.BinaryField()),
                ('host', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='fleet.host')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('host', 'epoch', 'sequence'), name='set_aside_once')],
            },
        ),
        migrations.CreateModel(
            name='GroupMembers',
            fields=[
                ('host_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('digest', models.CharField(max_length=32)),
                ('devices', models.JSONField(default=dict)),
            ],
        ),
    ]
