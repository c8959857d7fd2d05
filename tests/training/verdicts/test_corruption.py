"""Losses of a device beside those of its peers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.verdicts.corruption import Agreement, compare

STEPS = 40
SOUND = [4.0 * 0.95**step + 0.5 for step in range(STEPS)]
PEERS = {"b": SOUND, "c": SOUND}


def bent(at: int, by: float) -> list[float]:
    return [loss * (1 + by) if step >= at else loss for step, loss in enumerate(SOUND)]


def test_equal_losses_are_the_same():
    assert compare(SOUND, PEERS, "fp32").agreement == Agreement.SAME


def test_a_difference_beyond_tolerance_is_found_at_its_step():
    found = compare(bent(10, 0.05), PEERS, "fp32")

    assert (found.agreement, found.at_step, found.n_peers) == (Agreement.DIFFERS, 10, 2)
    assert "at step 11" in found.reason
    assert found.reference == tuple(SOUND)


def test_the_last_digits_may_differ():
    assert compare(bent(0, 1e-6), PEERS, "fp32").agreement == Agreement.SAME


def test_peers_that_differ_among_themselves_widen_the_tolerance():
    peers = {"b": bent(5, 0.01), "c": bent(5, -0.01), "d": SOUND, "e": bent(5, 0.012)}

    assert compare(bent(5, 0.02), PEERS, "fp32").agreement == Agreement.DIFFERS
    assert compare(bent(5, 0.02), peers, "fp32").agreement == Agreement.SAME


def test_one_corrupt_peer_does_not_hide_another():
    assert compare(bent(5, 0.3), {**PEERS, "d": bent(5, 0.5), "e": SOUND}, "fp32").agreement == Agreement.DIFFERS


def test_one_peer_cannot_tell_who_is_wrong():
    found = compare(bent(5, 0.3), {"b": SOUND}, "fp32")

    assert found.agreement == Agreement.UNKNOWN
    assert "1 other devices" in found.reason


def test_an_infinite_loss_is_a_difference():
    assert compare(bent(8, float("inf")), PEERS, "fp32").at_step == 8


def test_half_precision_may_differ_more():
    assert compare(bent(0, 1e-3), PEERS, "fp32").agreement == Agreement.DIFFERS
    assert compare(bent(0, 1e-3), PEERS, "bf16").agreement == Agreement.SAME


def test_a_step_that_did_not_arrive_is_no_difference():
    mine = [float("nan") if step == 7 else loss for step, loss in enumerate(SOUND)]

    assert compare(mine, PEERS, "fp32").agreement == Agreement.SAME


def test_a_cpu_may_differ_least():
    assert compare(bent(0, 5e-5), PEERS, "fp32").agreement == Agreement.SAME
    assert compare(bent(0, 5e-5), PEERS, "fp32", is_cpu=True).agreement == Agreement.DIFFERS


@given(at=st.integers(0, STEPS - 1), by=st.floats(0.35, 10) | st.floats(-1, -0.35), n_peers=st.integers(2, 6))
def test_a_gross_difference_is_found_wherever_it_begins(at, by, n_peers):
    mine = [loss + (by * SOUND[0] if step >= at else 0) for step, loss in enumerate(SOUND)]

    found = compare(mine, {str(peer): SOUND for peer in range(n_peers)}, "bf16")

    assert (found.agreement, found.at_step) == (Agreement.DIFFERS, at)


@given(factor=st.floats(0.01, 100))
def test_the_scale_of_the_loss_does_not_matter(factor):
    peers = {name: [factor * loss for loss in curve] for name, curve in PEERS.items()}

    found = compare([factor * loss for loss in bent(9, 0.05)], peers, "fp32")

    assert found.at_step == 9
    assert found.difference == pytest.approx(compare(bent(9, 0.05), PEERS, "fp32").difference, rel=1e-6)
