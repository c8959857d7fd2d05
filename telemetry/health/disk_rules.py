"""The rule of the server's disk: the file system that its data lie on, and STEPWATT_DISK_LIMIT. Data for rules.py."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from django.conf import settings

from fleet import units
from fleet.models import Severity
from telemetry import vendor_sql
from telemetry.health.rule import BETWEEN, UNKNOWN, Limits, Rule, Scope, Sign, Threshold, raised
from telemetry.health.seen import SERVER, HostSeen, Subject

_DATABASE = Subject("database")
_ADVICE_ON_LIMIT = "raise STEPWATT_DISK_LIMIT, or shorten the retention of raw samples"


@dataclass(slots=True)
class DiskSurvey:
    """Looks at the disk that the data directory lies on, and at what the database holds where that has a limit."""

    limits: Limits
    now: datetime
    directory: Path = field(default_factory=lambda: settings.STEPWATT_DATA_DIR)

    def see(self, host: HostSeen) -> None:
        """A host's disk is not told by its agent."""

    def signs(self) -> Iterator[tuple[Subject, Sign]]:
        for subject, sign in ((SERVER, self._of_disk()), (_DATABASE, self._of_limit())):
            if sign is not None:
                yield subject, sign

    def _of_disk(self) -> Sign | None:
        try:
            usage = shutil.disk_usage(self.directory)
        except OSError:
            return UNKNOWN
        share = usage.used / (usage.used + usage.free)
        if share >= self.limits["used_ratio"]:
            grave = Severity.CRITICAL if share >= self.limits["critical_ratio"] else None
            words = f"the disk of its data is {units.quantity(share, 'ratio')} full"
            return raised(words, {"used_ratio": share, "free_bytes": usage.free}, severity=grave)
        return BETWEEN if share > self.limits["clear_used_ratio"] else None

    def _of_limit(self) -> Sign | None:
        """A limit that is reached is never critical: nothing stops, the oldest samples go (disk_limit.py)."""
        limit = settings.STEPWATT_DISK_LIMIT
        if limit is None:
            return None
        held = vendor_sql.held_bytes()
        share = held / limit
        if share >= self.limits["used_ratio"]:
            words = (
                f"it holds {units.quantity(share, 'ratio')} of the {units.quantity(limit, 'bytes')} that it may; "
                "beyond that the oldest raw samples go before their time"
            )
            return raised(words, {"used_ratio": share, "held_bytes": held, "limit_bytes": limit}, _ADVICE_ON_LIMIT)
        return BETWEEN if share > self.limits["clear_used_ratio"] else None


RULES = (
    Rule(
        "disk_full", "Disk nearly full", Severity.WARNING,
        "The disk of the server's data directory; what the database holds, where STEPWATT_DISK_LIMIT bounds it",
        "free space, give it more, or shorten the retention of raw samples", DiskSurvey, scope=Scope.FLEET,
        own_thresholds=(
            Threshold("used_ratio", "full from", "ratio", 0.9, 0.1, 1),
            Threshold("clear_used_ratio", "clear up to", "ratio", 0.87, 0.05, 1),
            Threshold("critical_ratio", "critical from", "ratio", 0.97, 0.1, 1),
        ),
    ),
)  # fmt: skip
