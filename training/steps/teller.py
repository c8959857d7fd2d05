"""Who tells of steps: a process of a run, as it says of itself and as the kernel knows it. No Django."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RunKey = tuple[str, str, str]  # name, launch, user


@dataclass(frozen=True, slots=True)
class Teller:
    """A process that tells of steps, as it says of itself; `user` and `pid` are the kernel's word. "" and None: unknown."""

    run: str
    launch: str
    rank: int
    user: str = ""
    process: str = ""
    owner: str = ""
    group: str = ""
    pid: int | None = None
    world_size: int | None = None
    restart: int = 0
    devices: tuple[str, ...] = ()
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> RunKey:
        return self.run, self.launch, self.user
