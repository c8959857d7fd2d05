"""Django's handle on the package."""

from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
