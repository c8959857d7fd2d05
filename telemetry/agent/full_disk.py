"""Why a file of the agent's could not be written, for whoever must help: what, where, how much room there is, and what to do.

Called by the order desk and by the jobs of this host. Imports nothing of the project.
"""

import errno
import os
from pathlib import Path

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota of the agent's user is used up"}


def why_not_written(path: Path, error: OSError, needed_bytes: int = 0) -> str:
    """Return the reason in words; of a full disk with its bytes. A file takes whole blocks, whatever it needs."""
    words = _FULL.get(error.errno or 0)
    if words is None:
        return f"{path} cannot be written ({error.strerror})"
    place = _there(path)
    try:
        room = os.statvfs(place)
    except OSError as unknown:
        return (
            f"{words}: {path} cannot be written, and how much is free is not told ({unknown.strerror}); free some space"
        )
    if room.f_files and not room.f_favail:
        return (
            f"{words}: no further file can be made on {_mount(place)} for {path}; remove files there, then launch again"
        )
    needed, free = max(needed_bytes, room.f_frsize), room.f_bavail * room.f_frsize
    return (
        f"{words}: {path} needs {needed:,} bytes, {free:,} bytes are free on {_mount(place)}; free some space there, "
        "then launch again"
    )


def _there(path: Path) -> Path:
    """Return the path or the nearest folder above it that exists."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def _mount(place: Path) -> Path:
    """Return where the file system of a path begins."""
    whole = place.resolve()
    return next(each for each in (whole, *whole.parents) if each.is_mount() or each == each.parent)
