"""Where telemetry lives. Only telemetry/store and telemetry/health read and write these tables; everybody else asks them."""

from telemetry.models.alerts import Delivery, DeliveryReason, NotificationTarget, RuleThreshold, Silence, TargetKind
from telemetry.models.rolled import DirtyGroup, DirtyRollup, GroupKind, GroupRollup, Rollup, RollupGroup
from telemetry.models.stored import AcceptedSequences, Chunk, LatestState, MaintenanceRun, SetAside, StoredBatch

__all__ = [
    "AcceptedSequences", "Chunk", "Delivery", "DeliveryReason", "DirtyGroup", "DirtyRollup", "GroupKind", "GroupRollup",
    "LatestState", "MaintenanceRun", "NotificationTarget", "Rollup", "RollupGroup", "RuleThreshold", "SetAside", "Silence",
    "StoredBatch", "TargetKind",
]  # fmt: skip
