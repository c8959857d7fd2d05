"""`manage.py up`, called by `make up`: checks, migrates, starts the server's processes, and watches them."""

import os
import signal
import sys
from argparse import ArgumentParser
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from fleet.access.auth import create_first_admin
from fleet.joining import own_agent
from fleet.settings import embedded_broker_url
from fleet.up import broker, startup
from fleet.up.processes import DEMO_NAME, demo_child, server_children
from fleet.up.supervisor import Console, Supervisor

_BROKER_SECONDS, _WEB_SECONDS = 30.0, 60.0
_ALL_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  bound to all, asked at the loopback


class Command(BaseCommand):
    help = "Runs the whole server on this machine until Ctrl-C or SIGTERM."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--demo", action="store_true", help="with a simulated fleet besides, marked as such")

    def handle(self, *, demo: bool = False, **_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the supervisor takes both
        # The supervisor starts processes and must have one thread; a pool would bring its own.
        connections["default"].settings_dict["OPTIONS"].pop("pool", None)
        os.umask(0o077)  # sessions, password hashes and messages are nobody else's to read
        directory = settings.STEPWATT_DATA_DIR
        try:
            startup.check_data_directory(directory)
            with startup.take_lock(directory):
                _check_outside()
                _migrate()
                _run(with_demo=demo)
        except startup.StartRefused as refusal:
            sys.exit(f"stepwatt: {refusal}")
        except KeyboardInterrupt:
            sys.exit(0)


def _check_outside() -> None:
    startup.check_bind(*settings.STEPWATT_BIND)
    startup.check_ingest_workers(settings.STEPWATT_INGEST_WORKERS, url_is_set=bool(settings.STEPWATT_DATABASE_URL))
    startup.check_database(url_is_set=bool(settings.STEPWATT_DATABASE_URL))
    if settings.STEPWATT_BROKER_URL:
        startup.check_broker(settings.STEPWATT_BROKER_URL)


def _migrate() -> None:
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except DatabaseError as error:
        raise startup.StartRefused(
            f"the database cannot be migrated ({error}); correct what it says, or restore a backup"
        ) from error
    finally:
        connections.close_all()


def _run(*, with_demo: bool) -> None:
    """Start the broker, then the others, tell where the pages are, and watch until asked to stop."""
    demo_names = (DEMO_NAME,) if with_demo else ()
    names = (child.name for child in server_children(""))
    console = Console(sys.stdout.buffer, ("up", "broker", *names, *demo_names))
    with Supervisor(console, own_name="up") as supervisor:
        broker_url = settings.STEPWATT_BROKER_URL or _start_broker(supervisor)
        if not supervisor.stop_asked:
            own_agent.enrol(broker_url, timezone.now())
            connections.close_all()
        for child in server_children(broker_url):
            supervisor.start(child)
        serves = supervisor.run_until(_web_answers, within_seconds=_WEB_SECONDS)
        if not serves and not supervisor.stop_asked:
            raise startup.StartRefused(
                f"the web server did not answer within {_WEB_SECONDS:g} s; what it said stands above"
            )
        if not supervisor.stop_asked:
            supervisor.say(_welcome(create_first_admin()))
            connections.close_all()
            if with_demo:
                supervisor.start(demo_child())
        supervisor.run()


def _start_broker(supervisor: Supervisor) -> str:
    """Return the broker's URL once it answers."""
    port_file, password = settings.EMBEDDED_BROKER_SOCKET_PORT_FILE, settings.EMBEDDED_BROKER_PASSWORD
    child = broker.embedded_broker(port_file.parent, port_file, password)
    supervisor.start(child)
    supervisor.run_until(
        lambda: broker.answers(port_file, password) or not supervisor.is_running(child.name),
        within_seconds=_BROKER_SECONDS,
    )
    if not supervisor.stop_asked and not broker.answers(port_file, password):
        raise startup.StartRefused(
            "the embedded broker did not start; what it said stands above. If its append-only file is "
            f"damaged, move {child.directory} away: agents send again what it held"
        )
    return embedded_broker_url(int(port_file.read_text()))


def _web_answers() -> bool:
    address, port = settings.STEPWATT_BIND
    connection = HTTPConnection(_ALL_ADDRESSES.get(address, address), port, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _welcome(password: str | None) -> str:
    address, port = settings.STEPWATT_BIND
    shown = f"[{address}]" if ":" in address else address
    lines = [f"Stepwatt serves {settings.STEPWATT_PUBLIC_URL or f'http://{shown}:{port}'}/"]
    if password:
        lines.append(f"First start: log in as admin with the one-time password {password}")
    return "\n".join([*lines, "Ctrl-C stops everything"])
