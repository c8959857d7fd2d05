"""The Keras callback in real trainings on TensorFlow: what reaches the agent, and that the training is left alone."""

import pytest

from tests.frameworks.trainings import trained

STEP, SAVE = 0.02, 0.03  # as the script's


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    return trained("keras_training.py", "tensorflow", tmp_path_factory.mktemp("keras"))


def test_each_step_is_told_with_its_number_and_the_given_samples(keras):
    assert keras.column("plain", "number") == [1, 2, 3]
    assert keras.column("plain", "samples") == [4, 4, 4]
    assert all(step["seconds"] >= STEP for step in keras.steps("plain"))
    assert (keras.known["plain"], keras.known["dropped"]) == (3, 0)


def test_without_a_given_batch_size_samples_are_unknown(keras):
    assert set(keras.column("resumed", "samples")) == {None}


def test_the_loss_is_the_one_that_keras_tells(keras):
    assert keras.column("plain", "loss") == keras.known["losses"]


def test_a_validation_after_the_steps_is_told(keras):
    (validation,) = keras.of_kind("plain", "validation")

    assert validation["seconds"] >= STEP
    assert validation["ended_seconds"] >= keras.steps("plain")[2]["ended_seconds"]


def test_a_checkpoint_is_told_when_it_is_written_and_the_model_is_left_as_it_was(keras):
    (checkpoint,) = keras.of_kind("plain", "checkpoint")

    assert checkpoint["seconds"] >= SAVE
    assert keras.known["is_saved"]
    assert keras.known["own_attributes"] == []


def test_a_loaded_model_goes_on_with_its_steps_numbers(keras):
    assert keras.column("resumed", "number") == [4, 5, 6, 7, 8, 9]
    assert keras.known["resumed"] == 9


def test_batches_of_one_execution_are_one_step(keras):
    assert keras.column("in pairs", "number") == [2, 4]
    assert keras.column("in pairs", "samples") == [8, 8]


def test_a_callback_that_fails_ends_its_telling_and_not_the_training(keras):
    assert (keras.known["broken"], keras.known["is_broken"]) == (3, True)
    assert keras.steps("broken") == []
