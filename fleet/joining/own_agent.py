"""Enrolling the agent of the server's own machine, which needs no token. Called by `manage.py up` before it starts it."""

import re
import socket
from datetime import datetime

from django.conf import settings
from django.utils.module_loading import import_string

from fleet.access.audit import Actor
from fleet.joining import enrolment, server_key
from fleet.joining.enrolment import HostRefused, Identity
from fleet.models import Host, Origin
from fleet.up.startup import StartRefused


def enrol(broker_url: str, now: datetime) -> str:
    """Return the name of this machine's host, whose agent may start now. A second time changes nothing.

    The name is the machine's, and stays what it was when the machine is renamed. Raises StartRefused.
    """
    enrol_here = import_string("telemetry.agent.membership.enrol_here")
    directory = settings.STEPWATT_DATA_DIR / "agent"
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:63] or "localhost"
    try:
        key = enrol_here(directory, name, broker_url, server_key.public_bytes())
        known = Host.objects.filter(public_key=key, origin=Origin.REAL).first()
        if known is not None and known.name != name:
            name = known.name
            enrol_here(directory, name, broker_url, server_key.public_bytes())
        machine = import_string("telemetry.agent.join.machine_digest")(directory)
        agent_version = import_string("telemetry.agent.version.version")()
        enrolment.enrol_own(name, Identity(key, machine, agent_version=agent_version), Actor.of_command(), now)
    except HostRefused as refusal:
        raise StartRefused(
            f"this machine's agent cannot join: {refusal}; remove that host (manage.py remove_host {name}) if it is gone, "
            "or give this machine another name (hostnamectl)"
        ) from refusal
    except (import_string("telemetry.agent.invalid.ConfigInvalid"), OSError) as error:
        raise StartRefused(f"this machine's agent cannot be set up in {directory}: {error}") from error
    return name
