"""The Lightning callback in real trainings: what reaches the agent, and that the training is left alone."""

import pytest

from tests.frameworks.trainings import trained

DATA, FORWARD, BACKWARD, OPTIMIZER, VALIDATION = 0.02, 0.01, 0.015, 0.005, 0.03  # as the script's


@pytest.fixture(scope="module", params=["lightning.pytorch", "pytorch_lightning"])
def lightning(request, tmp_path_factory):
    return trained("lightning_training.py", "torch", tmp_path_factory.mktemp("lightning"), request.param)


def test_each_step_is_told_with_its_number_and_its_samples(lightning):
    assert lightning.column("plain", "number") == [1, 2, 3]
    assert lightning.column("plain", "samples") == [4, 4, 2]
    assert (lightning.known["plain"], lightning.known["dropped"]) == (3, 0)


def test_its_phases_are_those_of_the_loop(lightning):
    for step in lightning.steps("plain")[:2]:
        phases = step["phases"]
        assert set(phases) == {"data", "forward", "backward", "optimizer"}
        assert phases["data"] >= DATA
        assert phases["forward"] >= FORWARD
        assert phases["backward"] >= BACKWARD
        assert phases["optimizer"] >= OPTIMIZER


def test_a_step_takes_what_its_phases_take_and_little_more(lightning):
    rests = [step["seconds"] - sum(step["phases"].values()) for step in lightning.steps("plain")[1:]]

    assert 0 <= min(rests) < 0.1  # where the machine did something else in between, it is more


def test_a_validation_between_steps_is_told_and_is_in_no_step(lightning):
    (validation,) = lightning.of_kind("plain", "validation")
    steps = lightning.steps("plain")

    assert validation["seconds"] >= VALIDATION + 10 * DATA / 4
    assert steps[1]["ended_seconds"] <= validation["ended_seconds"] <= steps[2]["ended_seconds"]
    assert lightning.begins_after(steps[2], validation)


def test_a_checkpoint_is_told_when_it_is_written(lightning):
    (checkpoint,) = lightning.of_kind("plain", "checkpoint")

    assert lightning.known["checkpoints"] == ["step=3.ckpt"]
    assert checkpoint["seconds"] > 0
    assert checkpoint["ended_seconds"] >= lightning.steps("plain")[2]["ended_seconds"]


def test_a_resumed_training_goes_on_with_its_steps_numbers(lightning):
    assert lightning.column("resumed", "number") == [4, 5, 6]
    assert lightning.known["resumed"] == 6


def test_batches_whose_gradients_are_accumulated_are_one_step(lightning):
    assert lightning.column("accumulating", "number") == [1, 2]
    assert lightning.column("accumulating", "samples") == [8, 2]
    assert lightning.steps("accumulating")[0]["phases"]["forward"] >= 2 * FORWARD


def test_nothing_is_asked_of_the_device_and_so_no_loss_is_told(lightning):
    assert lightning.known["operations"] == []
    assert lightning.column("plain", "loss") == [None, None, None]


def test_a_callback_that_fails_ends_its_telling_and_not_the_training(lightning):
    assert (lightning.known["broken"], lightning.known["is_broken"]) == (3, True)
    assert lightning.steps("broken") == []


def test_ranks_that_lightning_starts_itself_are_told_apart_in_one_launch(tmp_path):
    steps = trained("lightning_two_ranks.py", "torch", tmp_path).steps("two ranks")

    assert sorted((step["rank"], step["number"]) for step in steps) == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert {step["world_size"] for step in steps} == {2}
    assert len({step["launch"] for step in steps}) == 1
    assert {step["samples"] for step in steps} == {4}
