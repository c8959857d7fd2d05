"""`manage.py remove_host NAME`: deletes a host with all that it measured, after a question."""

from argparse import ArgumentParser
from math import inf
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from fleet.access.audit import Actor
from fleet.inventory.removal import clear, is_going, remove_host
from fleet.models import Host


class Command(BaseCommand):
    help = "Delete a host, its devices and all that it measured; its agent is no longer believed."
    requires_migrations_checks = True

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *args: Any, name: str, yes: bool, **options: Any) -> None:
        host = Host.objects.filter(name=name).first()
        if host is None:
            if is_going(name):  # a command before was stopped
                clear(inf)
                self.stdout.write(f"{name} was removed before; what was left of it is gone now")
                return
            raise CommandError(f"there is no host named {name!r}")
        if not yes and not _is_confirmed(host):
            raise CommandError("nothing was removed")
        remove_host(host, Actor.of_command(), timezone.now())
        self.stdout.write(f"{name} was removed")


def _is_confirmed(host: Host) -> bool:
    question = (
        f"Delete {host.name}, its {host.devices.count()} devices and all that was measured there? Type its name: "
    )
    try:
        return input(question) == host.name
    except EOFError:
        return False
