"""`manage.py add_host NAME [--cluster C] [--label k=v]…`: enrols a host; prints the one command to paste on it, alone."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.joining.enrolment import HostRefused, add_host
from fleet.joining.join_command import NoAddress, join_command


class Command(BaseCommand):
    help = "Enrol a host and print the command to paste on it, with a one-time token that holds for 24 hours."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the host's name in Stepwatt")
        parser.add_argument("--cluster", help="the group that it belongs to")
        parser.add_argument("--label", type=_label, action="append", dest="labels", metavar="KEY=VALUE")

    def handle(
        self, *args: Any, name: str, cluster: str | None, labels: list[tuple[str, str]] | None, **options: Any
    ) -> None:
        given = dict(labels) if labels else None
        try:
            with transaction.atomic():
                host, token = add_host(name, cluster, given, Actor.of_command(), timezone.now())
                command = join_command(token)
        except (HostRefused, NoAddress) as error:
            raise CommandError(f"no host added: {error}") from error
        if host.public_key:
            self.stderr.write(
                f"{name} has joined before. The machine that uses this token takes its place; the agent of now is then "
                "no longer believed."
            )
        for hint in command.hints:
            self.stderr.write(hint)
        self.stdout.write(command.text)


def _label(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ArgumentTypeError(f"{text!r}: expected KEY=VALUE")
    return key, value
