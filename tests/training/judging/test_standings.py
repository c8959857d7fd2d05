"""How hosts and devices stand to their baselines: read of all results at once, and of a large fleet once in a while."""

import pytest

from tests.training.judging.judged import board, judged, with_history
from training.judging import results

pytestmark = pytest.mark.django_db


@pytest.fixture
def slow():
    return judged(with_history(board("a")), 1.2).job


def test_a_host_and_its_device_stand_alike(slow):
    (of_device,) = results.slowest_by_device().values()

    assert results.slowest_by_host([slow.host_id]) == {slow.host_id: of_device}
    assert of_device.deviation == pytest.approx(-1 / 6, abs=0.02)


def test_of_a_large_fleet_the_results_are_not_read_for_each_look(slow, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(results, "_MANY_HOSTS", 0)
    first = results.slowest_by_host([slow.host_id])

    with django_assert_num_queries(0):
        assert results.slowest_by_host([slow.host_id]) == first
    assert first
