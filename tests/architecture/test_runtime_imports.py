"""What each process loads. import-linter cannot see names given as strings; a fresh interpreter can."""

import json
import os
import subprocess
import sys

import pytest

WEB = """
import django, fleet.asgi
from django.urls import get_resolver
get_resolver().url_patterns
"""
WORKER = """
import django
django.setup()
from fleet.celery import app
app.loader.import_default_modules()
assert "telemetry.ingest_batch" in app.tasks and "training.ingest_report" in app.tasks
"""
AGENT = """
from pathlib import Path
from telemetry.agent import __main__ as entry
from telemetry.agent.app import EXTENSIONS, create_app
from telemetry.agent.config import read_config
from telemetry.agent.membership import enrol_here
import tempfile
directory = tempfile.mkdtemp()
enrol_here(Path(directory) / "agent", "alone", "redis://127.0.0.1:1/0", bytes(32))
config = read_config({"STEPWATT_DATA_DIR": directory})
app = create_app(config)
app.loader.import_default_modules()
assert "host.start_job" in app.tasks
"""
CLIENT_OF_TORCH = """
from importlib import import_module
import training.reference.harness
from training.workloads.catalog import WORKLOADS
for workload in WORKLOADS.values():
    import_module(f"training.reference.{workload.module}")
"""


def loaded_by(code: str) -> set[str]:
    """Return the names of the modules that a fresh interpreter holds after running `code`.

    kombu imports a part of `django.utils` wherever Django is installed, so Django's presence shows in its settings.
    """
    dump = "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", code + dump],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "fleet.settings"},
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("process", "forbidden"),
    [
        pytest.param(WEB, {"torch", "pynvml", "telemetry.agent.app"}, id="web"),
        pytest.param(WORKER, {"torch", "pynvml", "telemetry.agent.app"}, id="workers"),
        pytest.param(
            AGENT,
            {"torch", "django.conf", "django.db", "fleet", "numpy", "plotly", "telemetry.models", "training.models"},
            id="agent",
        ),
        pytest.param(CLIENT_OF_TORCH, {"django", "celery", "kombu", "fleet", "telemetry"}, id="reference jobs"),
    ],
)
def test_a_process_does_not_load(process, forbidden):
    assert loaded_by(process) & forbidden == set()


def test_the_probe_sees_what_is_loaded():
    assert "torch" in loaded_by("import torch")


def test_importing_the_project_package_starts_nothing():
    assert not {"celery", "django"} & loaded_by("import fleet, telemetry, training")


def test_the_web_server_has_loaded_its_pages_before_the_collector_is_told_to_leave_that_alone():
    """What the first request loads, the collector looks through again and again: 50 ms each time."""
    assert loaded_by(WEB) == loaded_by("import fleet.asgi") | {"json"}
