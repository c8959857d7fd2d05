import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.accounts.account import Account
from training.runs import energy
from training.runs.energy_shares import Tenant, shares
from training.steps.intervals import Intervals


def steps(*spans):
    return Intervals.of(np.array([start for start, _ in spans], float), np.array([end for _, end in spans], float))


def test_a_run_alone_on_its_device_has_all_of_it():
    assert shares([Tenant(steps((0, 10)), 0, 10)], [0, 50, 100]).tolist() == [1.0, 1.0]


def test_while_both_are_in_a_step_each_has_half_and_else_the_one_that_is():
    one, other = Tenant(steps((0, 60)), 0, 100), Tenant(steps((40, 100)), 0, 100)
    assert shares([one, other], [0, 40, 60, 100]) == pytest.approx([1.0, 0.5, 0.0])


def test_while_none_is_in_a_step_all_that_are_there_have_equal_parts():
    one, other = Tenant(steps((0, 10)), 0, 100), Tenant(steps((20, 30)), 0, 60)
    assert shares([one, other], [30, 60, 100]) == pytest.approx([0.5, 1.0])


spans = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 200)), max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.lists(spans, min_size=1, max_size=4), st.lists(st.integers(1, 1199), max_size=4, unique=True))
def test_the_parts_of_all_runs_add_up(runs, cuts):
    tenants = [Tenant(steps(*((start, start + length) for start, length in each)), 0, 1200) for each in runs]
    edges = [0, *sorted(cuts), 1200]
    total = sum(shares([tenants[n], *tenants[:n], *tenants[n + 1 :]], edges) for n in range(len(tenants)))
    assert total == pytest.approx(np.ones(len(edges) - 1))


def test_what_of_a_cost_is_shared_out_by_time_and_what_cannot_be_read_come_along_with_it():
    total, part = Account("run"), Account("window", cost=2.0, cost_estimated=1.0, is_unread=True)

    energy._add(total, part, 0.5)

    assert (total.cost, total.cost_estimated_share, total.unread) == (1.0, 0.5, "samples cannot be read")
