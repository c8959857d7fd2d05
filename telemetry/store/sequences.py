"""Sets of sequence numbers as intervals: what was accepted of one epoch. Pure; called by the acceptance.

A set is [[first, last], …], both inclusive, ascending and apart by at least one number: equal sets are equal lists, so that
it does not matter in which order their numbers came.
"""

from bisect import bisect_right
from collections.abc import Sequence

Ranges = list[list[int]]


def contains(ranges: Sequence[Sequence[int]], sequence: int) -> bool:
    place = bisect_right(ranges, sequence, key=_first) - 1
    return place >= 0 and sequence <= ranges[place][1]


def add(ranges: Ranges, number: int) -> None:
    """Put the number into the set, where it may be already."""
    after = bisect_right(ranges, number, key=_first)
    if after and number <= ranges[after - 1][1]:
        return
    joins_before = after > 0 and ranges[after - 1][1] == number - 1
    joins_after = after < len(ranges) and ranges[after][0] == number + 1
    if joins_before and joins_after:
        ranges[after - 1][1] = ranges.pop(after)[1]
    elif joins_before:
        ranges[after - 1][1] = number
    elif joins_after:
        ranges[after][0] = number
    else:
        ranges.insert(after, [number, number])


def _first(interval: Sequence[int]) -> int:
    return interval[0]
