"""Django's handle on the package."""

from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    name = "telemetry"
