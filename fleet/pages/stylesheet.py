"""The pages' one stylesheet: the components' files in their order, joined without their comments, under a name that changes.

A page asks once instead of two dozen times, and what a browser has it need not ask for again. Named in base.html by the tag
`stylesheet`.
"""

from functools import cache
from hashlib import sha256
from typing import NamedTuple

from django.conf import settings
from rcssmin import cssmin

# What comes later overrides what comes before.
FILES = (
    "tokens", "base", "shell", "controls", "status", "panel", "tile", "hostmap", "attention", "table", "matrix", "results",
    "chart", "facts", "card", "job", "run", "launch", "empty", "login", "find", "power", "settings", "print",
)  # fmt: skip


class Stylesheet(NamedTuple):
    text: str
    digest: str


@cache
def stylesheet() -> Stylesheet:
    """Return all components' rules, and a name for this state of theirs."""
    folder = settings.BASE_DIR / "static" / "css"
    text: str = cssmin("\n".join((folder / f"{name}.css").read_text() for name in FILES))
    return Stylesheet(text, sha256(text.encode()).hexdigest()[:12])
