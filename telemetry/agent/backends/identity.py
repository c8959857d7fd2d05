"""Names for what has none of its own: the machine, and devices that carry no UUID (a CPU).

Called by the agent's start and by the backends. Imports nothing of the project.
"""

import re
import uuid
from collections.abc import Sequence
from pathlib import Path

_MACHINE_ID = re.compile(r"[0-9a-f]{32}")  # machine-id(5); an unfinished image holds "uninitialized" or nothing
_SOURCES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

# Devices keep their UUID only as long as this stays what it is.
_NAMESPACE = uuid.UUID("0b8dd1d1-2d3c-5c1f-9a53-8f9a3c1b7e42")


def machine_id(directory: Path, sources: Sequence[Path] = _SOURCES) -> str:
    """Return 32 hexadecimal digits that stay with this machine: the system's, else `directory`/machine-id.

    That file is written by the first call that needs it. Raises OSError where it cannot be written.
    """
    own = directory / "machine-id"
    for path in (*sources, own):
        found = _read(path)
        if found:
            return found
    made = uuid.uuid4().hex
    draft = own.with_suffix(".draft")
    draft.write_text(f"{made}\n")
    draft.replace(own)
    return made


def stable_uuid(machine: str, kind: str, address: str) -> str:
    """Return the device's UUID: the same for the same machine, kind ("cpu") and address ("package-0").

    It is a digest (uuid5), since machine-id(5) asks that the id itself does not leave the machine.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{machine}/{kind}/{address}"))


def _read(path: Path) -> str | None:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None  # unreadable is as good as missing: the next source follows
    return text if _MACHINE_ID.fullmatch(text) else None
