"""Django's handle on the package; connects what training does at a host's removal, its health rules, its columns of hosts."""

from importlib import import_module

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        import_module("training.hooks.removal")
        import_module("training.hooks.health_rules")
        import_module("telemetry.health.rules").register(import_module("training.runs.straggler_rule").RULE)
        import_module("telemetry.newest.host_columns").provide(import_module("training.hooks.host_columns").columns)
