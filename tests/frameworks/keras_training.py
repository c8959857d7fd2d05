"""Small real trainings with Keras on TensorFlow, as a user writes them: `python keras_training.py DIRECTORY`.

Prints, as JSON, what the trainings knew of themselves.
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from stepwatt.keras import StepwattCallback

STEP_SECONDS, SAVE_SECONDS = 0.02, 0.03


class SlowLayer(keras.layers.Layer):
    """The identity, which takes its time at each step."""

    def call(self, x):
        return tf.ensure_shape(tf.numpy_function(self._wait, [x], tf.float32), x.shape)

    @staticmethod
    def _wait(x):
        time.sleep(STEP_SECONDS)
        return x


class SlowModel(keras.Sequential):
    def save(self, *arguments, **named):
        time.sleep(SAVE_SECONDS)
        super().save(*arguments, **named)


class Losses(keras.callbacks.Callback):
    """Takes down what Keras tells of each step."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(logs["loss"])


class Broken(StepwattCallback):
    @property
    def _events(self):
        raise RuntimeError("a fault of our own")


def model(**options):
    layers = [keras.Input((1,)), SlowLayer(), keras.layers.Dense(1)]
    made = SlowModel(layers)
    made.compile(optimizer="sgd", loss="mse", **options)
    return made


def train(made, *callbacks, epochs=1, **options):
    """Train on ten points, in batches of four."""
    x = np.arange(10, dtype="float32").reshape(10, 1) / 10
    made.fit(x, 2 * x, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks), **options)
    return int(made.optimizer.iterations.numpy())


def main() -> None:
    directory, losses = Path(sys.argv[1]), Losses()
    x = np.zeros((4, 1), "float32")
    callback, broken = StepwattCallback("plain", samples_per_step=4), Broken("broken")
    plain, path = model(), str(directory / "plain.keras")
    known = {"plain": train(plain, callback, losses, keras.callbacks.ModelCheckpoint(path), validation_data=(x, x))}
    known |= {"losses": losses.values, "dropped": callback.run.dropped, "is_saved": Path(path).exists()}
    known["own_attributes"] = [name for name in ("save", "save_weights") if name in vars(plain)]
    loaded = keras.models.load_model(path, custom_objects={"SlowLayer": SlowLayer, "SlowModel": SlowModel})
    known["resumed"] = train(loaded, StepwattCallback("resumed"), epochs=2)
    train(model(steps_per_execution=2), StepwattCallback("in pairs", samples_per_step=4))
    known["broken"], known["is_broken"] = train(model(), broken), broken.is_broken
    sys.stdout.write(json.dumps(known))


if __name__ == "__main__":
    main()
