"""The one command to paste on a bare GPU host, and what must hold beside it. Called by `manage.py add_host` and its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.module_loading import import_string

from fleet.joining import server_key

VENV = "~/stepwatt-agent"


class NoAddress(Exception):
    """There is no command, as the server has no address that a host could be told."""


@dataclass(frozen=True, slots=True)
class JoinCommand:
    """`text` runs in a shell as it stands, `start` and `unit` after it; `obstacles` are what would keep it from working."""

    text: str
    start: str
    unit: str
    obstacles: Sequence[str]

    @property
    def hints(self) -> list[str]:
        """Return what to say beside the command on a terminal."""
        return [
            f"Then `{self.start}` starts it, and `{self.unit}` prints a systemd unit that keeps it running.",
            *self.obstacles,
        ]


def join_command(token: str) -> JoinCommand:
    """Return the command that installs the agent from this server and joins with the token. Raises NoAddress."""
    url, agent = _server_url(), f"{VENV}/bin/stepwatt-agent"
    wheel = import_string("telemetry.wheels.agent_wheel")()
    source = f"{url}/dist/{wheel.name}#sha256={wheel.sha256}"
    text = (
        f"python3 -m venv {VENV} &&"
        f" {VENV}/bin/pip install --quiet --disable-pip-version-check '{source}' &&"
        f" {agent} join {url} --token {token} --server-key {server_key.fingerprint()}"
    )
    return JoinCommand(text, f"{agent} run", f"{agent} print-unit", _obstacles(url))


def _server_url() -> str:
    if settings.STEPWATT_PUBLIC_URL:
        return str(settings.STEPWATT_PUBLIC_URL)
    address, port = settings.STEPWATT_BIND
    if address in {"0.0.0.0", "::", ""}:  # noqa: S104 — only compared
        raise NoAddress("STEPWATT_PUBLIC_URL: set it to the URL under which the hosts reach this server")
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def _obstacles(url: str) -> list[str]:
    """Say what keeps other machines from joining, or a listener from hearing nothing of it."""
    here = _is_loopback(urlsplit(url).hostname)
    found = []
    if not settings.STEPWATT_BROKER_URL:
        found.append(
            "This works on the server's own machine only: the embedded broker has no TLS and stays on the loopback. For "
            "other hosts set STEPWATT_BROKER_URL=rediss://… (or amqps://…), STEPWATT_PUBLIC_URL=https://… and, without a "
            "proxy in front, STEPWATT_BIND (docs/install.md)."
        )
    else:
        broker = urlsplit(settings.STEPWATT_BROKER_URL)
        if _is_loopback(broker.hostname) or here:
            found.append(
                "This works on the server's own machine only: STEPWATT_BROKER_URL and STEPWATT_PUBLIC_URL must name "
                "addresses that the hosts reach too."
            )
        if broker.scheme in {"redis", "amqp"}:
            found.append(
                "STEPWATT_BROKER_URL has no TLS: the broker's password travels unencrypted; use rediss:// or amqps://."
            )
    if settings.STEPWATT_BROKER_CA:
        found.append(
            f"The broker's certificate is checked against {settings.STEPWATT_BROKER_CA}: copy that file to the host, and "
            "set STEPWATT_BROKER_CA to its path there."
        )
    if url.startswith("http://") and not here:
        found.append(
            f"{url} has no TLS: whoever listens learns the token and the broker's password. The server's key is checked "
            "all the same; give STEPWATT_PUBLIC_URL=https://… where the network is not yours alone."
        )
    return found


def _is_loopback(name: str | None) -> bool:
    try:
        return ip_address(name or "").is_loopback
    except ValueError:
        return name == "localhost"
