"""Django's handle on the package; loads the server's Celery app, so that tasks find it wherever Django runs."""

from importlib import import_module

from django.apps import AppConfig


class FleetConfig(AppConfig):
    name = "fleet"

    def ready(self) -> None:
        import_module("fleet.celery")
        import_module("fleet.checks")
