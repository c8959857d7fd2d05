"""Telemetry's part of the HTTP API, over batches as agents send them. Sign-in and roles: tests/fleet/test_api.py."""

import time
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.models import Device, DeviceKind, Host
from telemetry.agent.context import *  # noqa
