"""JSON that is read or written by the thousand, by orjson: in Django's column, or as text into which no database looks."""

from typing import Any

import orjson
from django.db import models
from django.db.models.expressions import Col


class FastJSONField(models.JSONField):
    """The column is the one that Django's field has."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        if isinstance(value, str) and isinstance(expression, Col):
            return orjson.loads(value)
        return super().from_db_value(value, expression, connection)

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class JSONTextField(models.JSONField):
    """JSON that is read and written whole only. As PostgreSQL's jsonb a host's newest readings took it four times as long."""

    def get_internal_type(self) -> str:
        return "TextField"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return orjson.loads(value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> str:
        return orjson.dumps(value).decode()

    def deconstruct(self) -> tuple[str, str, Any, Any]:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs
