"""Losses beside those of the other devices."""

import pytest

from tests.training.judging.judged import board, judged
from training.models import LossAgreement, Verdict

pytestmark = pytest.mark.django_db
SOUND = [5.0 * 0.97**step for step in range(30)]
BENT = [loss + (0.4 if step > 12 else 0) for step, loss in enumerate(SOUND)]


def agreement(verdict: Verdict) -> str:
    return Verdict.objects.get(pk=verdict.pk).agreement


def test_equal_losses_agree_and_both_curves_are_kept():
    for name in "bc":
        judged(board(name), losses=SOUND)

    verdict = judged(board("a"), losses=SOUND)

    assert verdict.agreement == LossAgreement.SAME
    assert verdict.losses == SOUND
    assert verdict.agreement_detail["reference"] == SOUND


def test_a_device_whose_losses_differ_is_reported_with_its_step():
    for name in "bc":
        judged(board(name), losses=SOUND)

    verdict = judged(board("a"), losses=BENT)

    assert verdict.agreement == LossAgreement.DIFFERS
    assert "at step 14" in verdict.agreement_reason


def test_the_first_of_three_is_judged_again_when_the_others_are_in():
    first, second = judged(board("a"), losses=BENT), judged(board("b"), minutes=1, losses=SOUND)
    assert [agreement(first), agreement(second)] == [LossAgreement.UNKNOWN] * 2

    third = judged(board("c"), minutes=2, losses=SOUND)

    assert agreement(first) == LossAgreement.DIFFERS
    assert [agreement(each) for each in (second, third)] == [LossAgreement.SAME] * 2


def test_another_seed_is_not_compared():
    for name in "bc":
        judged(board(name), losses=SOUND, params={"seed": 2})

    assert judged(board("a"), losses=BENT).agreement == LossAgreement.UNKNOWN


def test_of_a_long_job_the_first_losses_are_compared():
    many = [5.0] * 4_500
    for name in "abc":
        verdict = judged(board(name), losses=many)

    assert len(verdict.losses) == 2_000
    assert verdict.agreement == LossAgreement.SAME


def test_a_job_without_losses_is_not_compared():
    verdict = judged(board("a"))

    assert (verdict.agreement, verdict.agreement_reason) == (LossAgreement.UNKNOWN, "no losses have arrived")
