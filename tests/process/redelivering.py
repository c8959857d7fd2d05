"""Run by test_redelivery.py as an ingest worker whose broker hands out again soon; with `dies` it is killed as it stores."""

import os
import signal
import sys

import django

django.setup()

from fleet.celery import app  # noqa: E402 — needs the apps
from telemetry.receiving import ingest  # noqa: E402

if sys.argv[1] == "dies":
    ingest.accept.accept = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
soon = {"visibility_timeout": 2, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}
app.conf.broker_transport_options = {**app.conf.broker_transport_options, **soon}
app.worker_main(["worker", "--queues", "telemetry", "--pool", "solo", "--without-gossip", "--without-mingle"])
