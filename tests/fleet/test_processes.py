"""The commands and environments of a server's processes."""

import subprocess
import sys

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from fleet.up import processes

BROKER_URL = "redis://:geheim@127.0.0.1:1/0"


def test_the_brokers_password_is_in_no_command():
    children = processes.server_children(BROKER_URL)
    assert children
    assert not any("geheim" in word for child in children for word in child.argv)


def test_as_many_ingest_workers_start_as_are_set(settings):
    settings.STEPWATT_INGEST_WORKERS = 3

    children = processes.server_children(BROKER_URL)

    ingest = [child.argv for child in children if "telemetry" in child.argv]
    assert len({argv[argv.index("--hostname") + 1] for argv in ingest}) == 3


def test_every_queue_that_a_task_goes_to_has_a_worker():
    app = import_string("fleet.celery.app")
    app.loader.import_default_modules()

    served = {argv[argv.index("--queues") + 1] for argv in commands() if "--queues" in argv}

    queues = {app.amqp.router.route({}, name)["queue"].name for name in app.tasks if not name.startswith("celery.")}
    assert queues == served


def test_the_clock_sends_tasks_that_there_are():
    app = import_string("fleet.celery.app")
    app.loader.import_default_modules()

    assert {turn["task"] for turn in app.conf.beat_schedule.values()} <= set(app.tasks)


def commands() -> list[tuple[str, ...]]:
    return [child.argv for child in processes.server_children(BROKER_URL)]


def test_the_agent_gets_the_brokers_url_and_nothing_of_django(monkeypatch):
    monkeypatch.setenv("STEPWATT_BROKER_URL_FILE", "/run/secrets/url")
    environment = processes.agent_environment(BROKER_URL)
    assert environment["STEPWATT_BROKER_URL"] == BROKER_URL
    assert "STEPWATT_BROKER_URL_FILE" not in environment  # it would win
    assert "DJANGO_SETTINGS_MODULE" not in environment


def test_what_stands_in_the_env_file_reaches_the_agent_too(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("STEPWATT_BATCH_SECONDS=2\nSTEPWATT_SOCKET=/run/from-file\n")
    monkeypatch.setattr(processes, "BASE_DIR", tmp_path)
    monkeypatch.setenv("STEPWATT_SOCKET", "/run/from-environment")
    environment = processes.agent_environment(BROKER_URL)
    assert environment["STEPWATT_BATCH_SECONDS"] == "2"
    assert environment["STEPWATT_SOCKET"] == "/run/from-environment"


def test_manage_agent_hands_its_arguments_to_the_hosts_own_command():
    command = [sys.executable, "manage.py", "agent", "run", "--help"]
    shown = subprocess.run(
        command, cwd=django_settings.BASE_DIR, capture_output=True, text=True, timeout=30, check=True
    )
    assert shown.stdout.startswith("usage: stepwatt-agent run")


def test_what_a_request_says_of_its_origin_counts_only_behind_a_proxy(settings):
    assert "--no-proxy-headers" in processes.server_children(BROKER_URL)[-1].argv

    settings.STEPWATT_PUBLIC_URL = "https://stepwatt.example.org"

    assert "--proxy-headers" in processes.server_children(BROKER_URL)[-1].argv
