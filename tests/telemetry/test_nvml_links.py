"""Boards of which some NVLinks answer and others do not, through the real bindings and the stubbed driver (tests/nvml_stub)."""

import pytest

from telemetry.catalog import AbsentReason

LINK_ERRORS = "nvmlDeviceGetNvLinkErrorCounter"
METRIC = "nvlink_replay_errors_total"  # of each link its own number
ALL = sum(range(18))
UNSUPPORTED, TIMEOUT = "unsupported 0 link:{}", "timeout 0 link:{}"


def of(rig, seconds=60.0):
    return rig.read(0, seconds)[METRIC]


@pytest.mark.parametrize("links", [[0], [17], [3, 4, 11], list(range(1, 18))])
def test_links_that_a_board_does_not_offer_are_left_out_of_the_sum(rig, nvml_stub, links):
    nvml_stub.write([UNSUPPORTED.format(link) for link in links])
    rig.backend.open()
    assert of(rig) == ALL - sum(links)


def test_links_that_a_board_does_not_offer_are_not_asked_again(rig, nvml_stub):
    nvml_stub.write([UNSUPPORTED.format(link) for link in (3, 4, 11)])
    rig.backend.open()
    rig.tick()
    asked = nvml_stub.calls(LINK_ERRORS, 0)
    rig.tick(60)
    assert nvml_stub.calls(LINK_ERRORS, 0) == asked + 15 * 4


def test_a_board_that_offers_no_link_has_no_errors_to_count(rig, nvml_stub):
    nvml_stub.write([UNSUPPORTED.format(link) for link in range(18)])
    rig.backend.open()
    assert of(rig) is AbsentReason.NOT_SUPPORTED


def test_a_board_with_fewer_links_is_asked_for_these(rig, nvml_stub):
    nvml_stub.make_a100(0)
    rig.backend.open()
    assert of(rig) == sum(range(12))


@pytest.mark.parametrize("link", [0, 9, 17])
def test_with_one_link_that_does_not_answer_at_the_start_there_is_no_sum_until_it_does(rig, nvml_stub, link):
    nvml_stub.add(TIMEOUT.format(link))
    rig.backend.open()
    assert of(rig, seconds=1) is AbsentReason.TIMEOUT
    nvml_stub.clear()
    assert of(rig, seconds=1) is AbsentReason.TIMEOUT  # it is looked for once a minute
    assert of(rig, seconds=60) == ALL


def test_with_one_link_that_may_not_be_read_there_is_no_sum_and_no_second_look(rig, nvml_stub):
    nvml_stub.forbid(0, "link:9")
    rig.backend.open()
    assert of(rig) is AbsentReason.NO_PERMISSION
    asked = nvml_stub.calls(LINK_ERRORS, 0)
    assert of(rig, seconds=61) is AbsentReason.NO_PERMISSION
    assert nvml_stub.calls(LINK_ERRORS, 0) == asked


@pytest.mark.parametrize("line", [UNSUPPORTED, TIMEOUT, "fail 0 link:{} 999"])
@pytest.mark.parametrize("link", [0, 9, 17])
def test_one_link_that_stops_answering_takes_the_sum_away_until_it_is_back(opened, nvml_stub, line, link):
    assert of(opened) == ALL
    nvml_stub.add(line.format(link))
    assert isinstance(of(opened), AbsentReason)
    nvml_stub.clear()
    assert of(opened) == ALL


def test_a_link_that_was_not_offered_at_the_start_does_not_join_the_sum_which_would_look_like_errors(rig, nvml_stub):
    nvml_stub.add(UNSUPPORTED.format(17))
    rig.backend.open()
    assert of(rig) == ALL - 17
    nvml_stub.clear()
    assert of(rig) == ALL - 17


def test_links_of_another_board_do_not_matter(rig, nvml_stub):
    nvml_stub.add("timeout 1 link:9")
    rig.backend.open()
    assert of(rig) == ALL


def test_one_link_is_enough_to_know_that_the_board_is_lost(opened, nvml_stub):
    nvml_stub.fail(0, "link:9", 15)
    assert of(opened) is AbsentReason.GPU_IS_LOST
