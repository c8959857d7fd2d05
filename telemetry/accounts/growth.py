"""How an account stands to one of an equal time before it. Asked by the fleet page's tile and the power page."""

from telemetry.accounts.account import Account

_ENOUGH = 0.98  # of either that is known: less would compare a part with a whole


def growth(account: Account, before: Account, enough: float = _ENOUGH) -> float | None:
    """Return joules over those before, − 1; None where either is known for less than `enough`, or others could tell of it.

    Both are scaled up to all that was asked for: the newest minutes may be on their way.
    """
    share, share_before = account.covered_share or 0.0, before.covered_share or 0.0
    if not account.joules or not before.joules or min(share, share_before) < enough:
        return None
    asked = account.asked_seconds, before.asked_seconds
    if min(asked) < _ENOUGH * max(asked):  # a recording lies in one of them alone
        return None
    return (account.joules / share) / (before.joules / share_before) - 1
