"""Making a model whose table PostgreSQL keeps in partitions by `start_ms`. Its first ones come after the migration (apps.py)."""

from django.db import migrations

from telemetry.vendor_sql import is_postgresql

_RANGES = "PARTITION BY RANGE (start_ms)"
_ROLLUP_STEPS = (60, 900, 3600)


class CreatePartitionedModel(migrations.CreateModel):
    """On SQLite an ordinary CreateModel. Rollups part by their step first: each is kept for a time of its own."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        if not is_postgresql(schema_editor.connection):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.name)
        table = model._meta.db_table
        is_rollup = any(field.name == "step_seconds" for field in model._meta.fields)
        sql, _ = schema_editor.table_sql(model)  # its foreign keys wait in deferred_sql
        schema_editor.execute(f"{sql} {'PARTITION BY LIST (step_seconds)' if is_rollup else _RANGES}")
        # The bodies are compressed: PostgreSQL need not try.
        schema_editor.execute(f"ALTER TABLE {table} ALTER COLUMN body SET STORAGE EXTERNAL")
        schema_editor.deferred_sql.extend(schema_editor._model_indexes_sql(model))
        ranged = [table]
        if is_rollup:
            ranged = [f"{table}_{step}" for step in _ROLLUP_STEPS]
            for step, part in zip(_ROLLUP_STEPS, ranged, strict=True):
                schema_editor.execute(f"CREATE TABLE {part} PARTITION OF {table} FOR VALUES IN ({step}) {_RANGES}")
        for part in ranged:
            schema_editor.execute(f"CREATE TABLE {part}_rest PARTITION OF {part} DEFAULT")
