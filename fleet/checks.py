"""System checks of an installation, with stable ids. Loaded by FleetConfig, run by `manage.py check`."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core import checks

from fleet.up.startup import StartRefused, check_data_directory


@checks.register(checks.Tags.files)
def data_directory_can_be_written(app_configs: Any, **_: Any) -> Sequence[checks.CheckMessage]:
    try:
        check_data_directory(settings.STEPWATT_DATA_DIR)
    except StartRefused as refusal:
        return [checks.Error(str(refusal), id="fleet.E001")]
    return []


@checks.register(checks.Tags.security)
def passwords_do_not_travel_in_the_clear(app_configs: Any, **_: Any) -> Sequence[checks.CheckMessage]:
    address = settings.STEPWATT_BIND[0]
    if _is_loopback(address) or settings.STEPWATT_PUBLIC_URL.startswith("https://"):
        return []
    return [
        checks.Warning(
            f"STEPWATT_BIND listens on {address}, so passwords travel unencrypted.",
            hint="Put a proxy with TLS in front and set STEPWATT_PUBLIC_URL=https://…, or bind to 127.0.0.1.",
            id="fleet.W001",
        )
    ]


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
