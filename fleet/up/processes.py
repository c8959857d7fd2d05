"""Which processes make up a server on one machine: their commands and their environments.

Called by `manage.py up`, `manage.py agent` and the benches. Upper packages are named as strings only.
"""

import os
import sys

from django.conf import settings

from fleet.environment.env import load_dotenv
from fleet.settings import BASE_DIR
from fleet.up.child import Child

DEMO_NAME = "simulate"
_DEMO_OPTIONS = ("--hosts", "8", "--gpus", "8", "--cluster", "demo", "--prefix", "demo", "--history", "86400")
_CELERY = (sys.executable, "-m", "celery", "--quiet", "--app")
_WORKER_OPTIONS = ("--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat")
_PREFETCH = ("--prefetch-multiplier", "400")  # two groups of messages: one is stored while the next one comes
_BEAT_FILE = str(settings.STEPWATT_DATA_DIR / "beat-schedule")
_BEAT_OPTIONS = ("--scheduler", "fleet.beat:Scheduler", "--schedule", _BEAT_FILE)


def server_children(broker_url: str) -> list[Child]:
    """Return the children in the order of their start; they end in the reverse order. The web comes last."""
    environment = server_environment()
    commands = {
        **{name: _worker(name, "telemetry", *_PREFETCH) for name in _ingest_names()},
        "worker": _worker("worker", "default"),
        # What may take seconds at a time, so that acknowledgements, jobs and alerts never wait behind it.
        "upkeep": _worker("upkeep", "upkeep"),
        "agent": agent_command("run"),
        "beat": (*_CELERY, "fleet.beat", "beat", *_BEAT_OPTIONS),
        "web": _web(),
    }
    return [
        Child(name, argv, BASE_DIR, agent_environment(broker_url) if name == "agent" else environment)
        for name, argv in commands.items()
    ]


def _ingest_names() -> list[str]:
    return ["ingest", *(f"ingest-{number}" for number in range(2, settings.STEPWATT_INGEST_WORKERS + 1))]


def _worker(name: str, queue: str, *options: str) -> tuple[str, ...]:
    argv = (*_CELERY, "fleet.celery", "worker", "--queues", queue, "--hostname", f"{name}@%h")
    return (*argv, *_WORKER_OPTIONS, *options)


def web_command(address: str, port: int) -> tuple[str, ...]:
    """Return what serves the pages and the API there: what `up` runs, and what the benches measure."""
    web = (sys.executable, "-m", "uvicorn", "fleet.asgi:application", "--host", address, "--port", str(port))
    quiet = ("--no-access-log", "--log-level", "warning")
    return (*web, *quiet, "--lifespan", "off", "--http", "fleet.web.head_limit:Protocol")


def _web() -> tuple[str, ...]:
    # Only behind a proxy: anybody on this machine could else say to come from anywhere, and pass the throttle.
    proxy = "--proxy-headers" if settings.STEPWATT_PUBLIC_URL else "--no-proxy-headers"
    return (*web_command(*settings.STEPWATT_BIND), "--timeout-graceful-shutdown", "3", proxy)


def demo_child() -> Child:
    """Return the child that simulates a fleet, whose hosts are enrolled as simulated."""
    argv = (sys.executable, str(BASE_DIR / "manage.py"), "simulate", *_DEMO_OPTIONS)
    return Child(DEMO_NAME, argv, BASE_DIR, server_environment())


def server_environment() -> dict[str, str]:
    return {
        **load_dotenv(BASE_DIR / ".env"),
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "fleet.settings",
        "PYTHONUNBUFFERED": "1",
        "STEPWATT_DATA_DIR": str(settings.STEPWATT_DATA_DIR),
    }


def agent_command(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "telemetry.agent", *arguments)


def agent_environment(broker_url: str) -> dict[str, str]:
    """Return what the agent needs besides: it reads neither Django's settings nor the file `.env`."""
    environment = server_environment()
    environment.pop("DJANGO_SETTINGS_MODULE")
    environment["STEPWATT_BROKER_URL"] = broker_url
    environment.pop("STEPWATT_BROKER_URL_FILE", None)
    return environment
