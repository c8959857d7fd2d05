"""The t distribution against printed tables."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.verdicts.student import quantile, quantiles, upper_tail

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2: upper critical values of Student's t.
TABLE = [
    (0.90, 1, 3.078), (0.95, 1, 6.314), (0.975, 2, 4.303), (0.975, 4, 2.776), (0.975, 9, 2.262), (0.99, 5, 3.365),
    (0.99, 13, 2.650), (0.995, 30, 2.750), (0.999, 10, 4.144), (0.999, 3, 10.215), (0.95, 100, 1.660),
]  # fmt: skip


@pytest.mark.parametrize(("p", "df", "printed"), TABLE)
def test_it_agrees_with_the_printed_table(p, df, printed):
    assert quantile(p, df) == pytest.approx(printed, abs=6e-4)


def test_with_one_degree_of_freedom_it_is_cauchys():
    assert upper_tail(2.0, 1) == pytest.approx(0.5 - np.arctan(2.0) / np.pi, rel=1e-12)


@settings(deadline=None)
@given(p=st.floats(0.5, 0.9999), df=st.floats(1, 200))
def test_the_quantile_undoes_the_tail(p, df):
    assert 1 - upper_tail(quantile(p, df), df) == pytest.approx(p, abs=1e-9)


@given(t=st.floats(0, 50), df=st.floats(1, 200))
def test_both_tails_add_up_to_one(t, df):
    assert upper_tail(t, df) + upper_tail(-t, df) == pytest.approx(1.0)


def test_many_quantiles_at_once_are_the_single_ones():
    df = np.array([2.0, 3.7, 4.0, 9.3, 13.0, 60.0])

    assert quantiles(0.99, df) == pytest.approx([quantile(0.99, float(each)) for each in df], rel=1e-3)


@pytest.mark.parametrize(("p", "df"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_it_refuses_what_is_no_such_quantile(p, df):
    with pytest.raises(ValueError, match="expected"):
        quantile(p, df)
