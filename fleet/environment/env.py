"""Typed readers of `STEPWATT_…` settings from the environment and from `.env` beside `manage.py`.

Called by the settings file and what it reads (mail.py, tariff.py), and by processes.py; imports nothing of Django.
A value that cannot be read fails at start with the variable's name, what stood there, and what is expected.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

_DURATION = re.compile(r"(\d+)(s|m|h|d|y)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]i?)?B?")
_BYTES = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "y": 365 * 86_400}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


class EnvironmentInvalid(Exception):
    """A setting cannot be used; the message names the variable and what is expected."""


def load_dotenv(path: Path) -> dict[str, str]:
    """Return the `KEY=value` pairs of a `.env` file; {} where there is none. The environment itself wins over it."""
    if not path.is_file():
        return {}
    pairs = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, separator, value = text.removeprefix("export ").partition("=")
        if not separator:
            raise EnvironmentInvalid(f"{path}, line {number}: expected KEY=value, found {text!r}")
        pairs[key.strip()] = value.strip().strip("'\"")
    return pairs


class Environment:
    """Reads settings by name; each reader returns the default where the variable is unset or empty."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def of_process(cls, dotenv: Path | None = None) -> "Environment":
        return cls({**(load_dotenv(dotenv) if dotenv else {}), **os.environ})

    def text(self, name: str, default: str = "") -> str:
        """Return the variable, or the content of the file that `<name>_FILE` names (for secrets)."""
        file = self._values.get(f"{name}_FILE")
        if file:
            try:
                return Path(file).read_text().strip()
            except OSError as error:
                raise EnvironmentInvalid(f"{name}_FILE={file}: cannot be read ({error.strerror})") from error
        return self._values.get(name) or default

    def optional_number(self, name: str, *, minimum: float = 0.0) -> float | None:
        raw = self.text(name)
        if not raw:
            return None
        try:
            value = float(raw)
        except ValueError:
            raise EnvironmentInvalid(f"{name}={raw!r}: expected a number") from None
        if not minimum <= value < float("inf"):
            raise EnvironmentInvalid(f"{name}={raw}: expected a finite number of at least {minimum:g}")
        return value

    def number(self, name: str, default: float, *, minimum: float, maximum: float) -> float:
        value = self.optional_number(name, minimum=minimum)
        if value is None:
            return default
        if value > maximum:
            raise EnvironmentInvalid(f"{name}={value:g}: expected at most {maximum:g}")
        return value

    def whole_number(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        value = float(self.number(name, default, minimum=minimum, maximum=maximum))
        if not value.is_integer():
            raise EnvironmentInvalid(f"{name}={value:g}: expected a whole number")
        return int(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        raw = self.text(name).lower()
        if not raw:
            return default
        if raw in _TRUE or raw in _FALSE:
            return raw in _TRUE
        raise EnvironmentInvalid(f"{name}={raw!r}: expected true or false")

    def duration(self, name: str, default: str) -> int:
        """Return seconds; written as `90s`, `15m`, `6h`, `7d` or `1y` (365 days)."""
        raw = self.text(name, default)
        match = _DURATION.fullmatch(raw)
        if not match:
            raise EnvironmentInvalid(f"{name}={raw!r}: expected a duration such as 30s, 15m, 6h, 7d or 1y")
        return int(match[1]) * _SECONDS[match[2]]

    def size(self, name: str) -> int | None:
        """Return bytes, None where unset; written as `500GB`, `1.5TB` or `200GiB`."""
        raw = self.text(name)
        if not raw:
            return None
        match = _SIZE.fullmatch(raw)
        if not match:
            raise EnvironmentInvalid(f"{name}={raw!r}: expected a size such as 500GB, 1.5TB or 200GiB")
        return round(float(match[1]) * _BYTES.get(match[2], 1))

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise EnvironmentInvalid(f"{name}={value!r}: expected one of {', '.join(choices)}")
        return value

    def bind(self, name: str, default: str) -> tuple[str, int]:
        """Return (address, port) of `address:port`; an IPv6 address stands in brackets."""
        raw = self.text(name, default)
        address, separator, port = raw.rpartition(":")
        if not separator or not port.isdigit() or not 0 < int(port) < 65_536:
            raise EnvironmentInvalid(f"{name}={raw!r}: expected address:port, such as 127.0.0.1:8000")
        return address.strip("[]"), int(port)

    def url(self, name: str, schemes: tuple[str, ...]) -> str:
        """Return the URL, "" where unset. The message of a refusal leaves the URL out: it may hold a password."""
        raw = self.text(name)
        if raw and raw.partition("://")[0] not in schemes:
            raise EnvironmentInvalid(
                f"{name}: expected a URL that begins with {' or '.join(s + '://' for s in schemes)}"
            )
        return raw

    def file(self, name: str) -> str:
        """Return the absolute path of a file that can be read, "" where unset."""
        raw = self._values.get(name, "")
        if not raw:
            return ""
        path = Path(raw).resolve()
        try:
            path.open("rb").close()
        except OSError as error:
            raise EnvironmentInvalid(f"{name}={raw}: cannot be read ({error.strerror})") from error
        return str(path)
