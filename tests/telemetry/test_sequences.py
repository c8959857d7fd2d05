"""Sets of sequence numbers as intervals."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry.store import sequences

NUMBERS = st.lists(st.integers(0, 40), max_size=60)


def ranges_of(numbers):
    ranges = []
    for number in numbers:
        sequences.add(ranges, number)
    return ranges


@given(NUMBERS)
def test_a_set_contains_what_was_put_into_it_and_nothing_else(numbers):
    ranges = ranges_of(numbers)

    assert [n for n in range(-1, 42) if sequences.contains(ranges, n)] == sorted(set(numbers))


@given(NUMBERS, st.randoms())
def test_any_order_and_repetition_gives_the_same_intervals(numbers, random):
    again = [*numbers, *numbers[:5]]
    random.shuffle(again)

    assert ranges_of(again) == ranges_of(numbers)


@given(NUMBERS)
def test_intervals_ascend_and_never_touch(numbers):
    ends = [end for interval in ranges_of(numbers) for end in interval]

    assert ends == sorted(ends)
    assert all(ends[n] + 1 < ends[n + 1] for n in range(1, len(ends) - 1, 2))


def test_a_hole_that_is_filled_joins_its_neighbours():
    assert ranges_of([0, 1, 3, 5]) == [[0, 1], [3, 3], [5, 5]]
    assert ranges_of([0, 1, 3, 5, 2, 4]) == [[0, 5]]
