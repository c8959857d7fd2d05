"""Django's handle on the package; connects what training does when a host is removed, and adds its health rules."""

from importlib import import_module

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        import_module("training.removal")
        import_module("training.health_rules")
        import_module("telemetry.health.rules").register(import_module("training.straggler_rule").RULE)
