"""`manage.py create_token NAME --role viewer|operator|admin`: prints an API token, alone, once."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from fleet.access import audit
from fleet.access.auth import TokenRefused, create_token
from fleet.models import Role


class Command(BaseCommand):
    help = "Make an API token and print it, alone, on standard output. It cannot be shown again."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="what the token is for, as the audit log will name it")
        parser.add_argument("--role", required=True, choices=Role.values)

    def handle(self, *args: Any, name: str, role: str, **options: Any) -> None:
        try:
            with transaction.atomic():
                token = create_token(name, Role(role))
                audit.record(audit.Actor.of_command().name, "token.create", name, {"role": role})
        except TokenRefused as error:
            raise CommandError(f"no token made: {error}") from error
        self.stdout.write(token)
