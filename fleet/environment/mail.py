"""The mail server, from `STEPWATT_SMTP_URL` and `STEPWATT_MAIL_FROM`, as Django's settings name its parts.

`smtp://` is upgraded by STARTTLS, `smtps://` is TLS from the start; `smtp://…?starttls=off` is for a server on this machine.
"""

from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fleet.environment.env import Environment, EnvironmentInvalid

_PORTS = {"smtp": 587, "smtps": 465}


def read(env: Environment) -> dict[str, Any]:
    """Return EMAIL_… and DEFAULT_FROM_EMAIL; without a mail server EMAIL_HOST is "". Raises EnvironmentInvalid."""
    url, sender = env.url("STEPWATT_SMTP_URL", tuple(_PORTS)), env.text("STEPWATT_MAIL_FROM", "stepwatt@localhost")
    if not url:
        return {"EMAIL_HOST": "", "DEFAULT_FROM_EMAIL": sender}
    try:
        parts = urlsplit(url)
        port, options = parts.port or _PORTS[parts.scheme], parse_qs(parts.query)
    except ValueError as error:
        raise EnvironmentInvalid(f"STEPWATT_SMTP_URL: {error}") from error
    if not parts.hostname or options.get("starttls", ["on"])[0] not in {"on", "off"} or set(options) - {"starttls"}:
        raise EnvironmentInvalid("STEPWATT_SMTP_URL: expected smtp://user:password@host:587 or smtps://…:465")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_USE_TLS": parts.scheme == "smtp" and options.get("starttls") != ["off"],
        "EMAIL_TIMEOUT": 10,
        "DEFAULT_FROM_EMAIL": sender,
    }
