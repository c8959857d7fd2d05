"""Statistics over buckets."""


def roll_up(budget_seconds: float) -> int:
    return 0
