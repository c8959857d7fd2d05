"""An account: joules of a group, what they cost and emitted, and of what share of the time they are known. No database.

Device and node energy are two scopes and never added: a node's meter holds its devices already, a GPU its MIG instances.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from telemetry.prices.energy_rates import JOULES_PER_KWH, Cost
from telemetry.store import unreadable


class Scope(StrEnum):
    DEVICE = "device"
    NODE = "node"


@dataclass(slots=True)
class Account:
    """Joules and what they cost. `cost` is None without a price, `grams_co2` without a figure for CO₂.

    `covered_seconds` are those of all devices together for which energy is known, of `asked_seconds` in which they could have
    told it (asked.py); where nothing is covered the energy is unknown, and `joules` None. `priced_by` names what the cost was
    taken from, `cost_estimated` the part of it that is shared out by time: what was drawn in a bucket in which the price
    changes, and whose minutes are gone. `is_unread` where samples of the time cannot be read: what was not counted before is
    not covered.
    """

    key: str
    measured: float = 0.0
    estimated: float = 0.0
    covered_seconds: float = 0.0
    asked_seconds: float = 0.0
    cost: float | None = None
    cost_estimated: float = 0.0
    grams_co2: float | None = None
    priced_by: set[Scope] = field(default_factory=set)
    is_unread: bool = False

    @property
    def joules(self) -> float | None:
        return self.measured + self.estimated if self.covered_seconds else None

    @property
    def why_unknown(self) -> str:
        """Return why `joules` is None, where it is: what is priced may be known of a node's meter alone."""
        return "only nodes' own meters tell, no device does" if self.priced_by else "nothing was measured"

    @property
    def kwh(self) -> float | None:
        return None if self.joules is None else self.joules / JOULES_PER_KWH

    @property
    def estimated_share(self) -> float | None:
        return self.estimated / self.joules if self.joules else None

    @property
    def cost_estimated_share(self) -> float | None:
        return self.cost_estimated / self.cost if self.cost else self.cost

    @property
    def unread(self) -> str:
        """Return the words that mark it where it `is_unread`."""
        return unreadable.WORDS if self.is_unread else ""

    def charge(self, cost: Cost | None) -> None:
        """Add a cost; None where there is no price."""
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost.whole
            self.cost_estimated += cost.estimated

    @property
    def covered_share(self) -> float | None:
        return self.covered_seconds / self.asked_seconds if self.asked_seconds else None

    @property
    def why_not_covered(self) -> str:
        """Return why `covered_share` is None, where it is."""
        return "no device could tell of this time"


@dataclass(frozen=True, slots=True)
class Accounts:
    total: Account
    groups: list[Account]

    def of(self, key: str) -> Account:
        """Return the account of a group; an empty one where there is none."""
        return next((group for group in self.groups if group.key == key), Account(key))
