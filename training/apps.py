"""Django's handle on the package; connects what training does when a host is removed."""

from importlib import import_module

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        import_module("training.removal")
