"""`manage.py agent`: becomes the host's own command, with this installation's broker and data directory."""

import argparse
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from fleet.up.processes import agent_command, agent_environment


class Command(BaseCommand):
    help = "Executes stepwatt-agent (default: run) with this installation's broker and data directory."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="join|run|release|resume|…")

    def handle(self, *, arguments: list[str], **_: Any) -> None:
        command = agent_command(*(arguments or ["run"]))
        os.chdir(settings.BASE_DIR)  # where `-m` finds the package
        os.execve(command[0], command, agent_environment(settings.CELERY_BROKER_URL))  # noqa: S606  no shell wanted
