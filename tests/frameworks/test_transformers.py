"""The Hugging Face Trainer's callback in real trainings: what reaches the agent, and that the training is left alone."""

import pytest

from tests.frameworks.trainings import trained

DATA, FORWARD, OPTIMIZER = 0.02, 0.01, 0.005  # as the script's


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return trained("transformers_training.py", "torch", tmp_path_factory.mktemp("transformers"))


def test_each_step_is_told_with_its_number_samples_and_tokens(trainer):
    assert trainer.column("plain", "number") == [1, 2, 3, 4, 5, 6]
    assert trainer.column("plain", "samples") == [4, 4, 2, 4, 4, 2]
    assert trainer.column("plain", "tokens") == [32, 32, 16, 32, 32, 16]
    assert trainer.known["dropped"] == 0


def test_its_phases_are_those_that_the_trainer_tells(trainer):
    for step in trainer.steps("plain"):
        phases = step["phases"]
        assert set(phases) == {"data", "forward_backward", "optimizer"}
        assert phases["forward_backward"] >= FORWARD
        assert phases["optimizer"] >= OPTIMIZER
        assert sum(phases.values()) <= step["seconds"]


def test_waiting_for_data_is_part_of_a_step(trainer):
    fetched = sum(step["phases"]["data"] for step in trainer.steps("plain"))

    assert fetched >= 4 * DATA  # the loader fetches a batch ahead: what it fetches in other steps counts there


def test_the_loss_is_the_one_that_the_trainer_logs(trainer):
    losses = {str(step["number"]): step["loss"] for step in trainer.steps("plain")}

    assert losses == pytest.approx(trainer.known["losses"])


def test_evaluations_between_steps_are_told_and_are_in_no_step(trainer):
    told, steps = trainer.of_kind("plain", "validation"), trainer.steps("plain")

    assert len(told) == 3
    more = [each["seconds"] - own for each, own in zip(told, trainer.known["evaluations"], strict=True)]
    assert 0 <= min(more) < 0.5
    for validation, after in ((told[0], steps[2]), (told[1], steps[4])):
        assert trainer.begins_after(after, validation)


def test_checkpoints_are_told_when_they_are_written(trainer):
    assert trainer.known["checkpoints"] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert [record["seconds"] > 0 for record in trainer.of_kind("plain", "checkpoint")] == [True] * 3


def test_a_resumed_training_goes_on_with_its_steps_numbers(trainer):
    assert trainer.column("resumed", "number") == [5, 6]
    assert trainer.known["resumed"] == 6


def test_batches_whose_gradients_are_accumulated_are_one_step(trainer):
    assert trainer.column("accumulating", "number") == [1, 2]
    assert trainer.column("accumulating", "samples") == [8, 2]
    assert trainer.steps("accumulating")[0]["phases"]["forward_backward"] >= 2 * FORWARD


def test_a_callback_that_fails_ends_its_telling_and_not_the_training(trainer):
    assert (trainer.known["broken"], trainer.known["is_broken"]) == (3, True)
    assert trainer.steps("broken") == []
