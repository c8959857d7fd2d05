"""Where telemetry lives. What holds samples and statistics only telemetry/store reads; everybody else asks it."""

from telemetry.models.alerts import (
    Delivery,
    DeliveryReason,
    HealthMemory,
    NotificationTarget,
    RuleThreshold,
    Silence,
    TargetKind,
)
from telemetry.models.prices import DevicePrice, EnergyPrice
from telemetry.models.rolled import DirtyGroup, DirtyRollup, GroupKind, GroupMembers, GroupRollup, Rollup, RollupGroup
from telemetry.models.stored import (
    AcceptedSequences,
    Chunk,
    LatestState,
    MaintenanceRun,
    SetAside,
    Shortened,
    StoredBatch,
    TableFigures,
    Unreadable,
)

__all__ = [
    "AcceptedSequences", "Chunk", "Delivery", "DeliveryReason", "DevicePrice", "DirtyGroup", "DirtyRollup", "EnergyPrice",
    "GroupKind", "GroupMembers", "GroupRollup", "HealthMemory", "LatestState", "MaintenanceRun", "NotificationTarget", "Rollup",
    "RollupGroup", "RuleThreshold", "SetAside", "Shortened", "Silence", "StoredBatch", "TableFigures", "TargetKind",
    "Unreadable",
]  # fmt: skip
