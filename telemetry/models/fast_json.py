"""JSON that is read by the thousand: Django's field, parsed by orjson."""

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
