"""Steps of Keras's `fit` on TensorFlow: `model.fit(…, callbacks=[StepwattCallback("llm-7b", samples_per_step=64)])`.

A step is one call of the compiled function, `steps_per_execution` batches; fetching its data lies within it, so there are no
phases. Keras tells no batch size: give `samples_per_step` (of one batch); an epoch's last batch counts as full. The loss is
Keras's own, the epoch's mean so far, which it reads from the device after each step, with this callback or without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras.callbacks import Callback

from .loop_events import LoopEvents, TimedCall, harmless
from .runs import Run

_SAVES = ("save", "save_weights")  # what ModelCheckpoint and BackupAndRestore call


class StepwattCallback(Callback):  # type: ignore[misc]
    """Takes what `stepwatt.run` takes."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.is_broken = False
        self._name, self._options = name, options
        self._loop: LoopEvents | None = None
        self._saving: list[TimedCall] = []
        self._first_batch = 0

    @property
    def run(self) -> Run | None:
        """Return the run, None before the training has begun."""
        return self._loop.run if self._loop else None

    @property
    def _events(self) -> LoopEvents:
        if self._loop is None:
            self._loop = LoopEvents(Run(self._name, **self._options))
        return self._loop

    @harmless
    def on_train_begin(self, logs: Any = None) -> None:
        # A model that goes on from a checkpoint goes on with its optimiser's count.
        self._events.number = int(self.model.optimizer.iterations.numpy())
        self._saving = [TimedCall(self.model, name, self._begin_save, self._end_save) for name in _SAVES]

    @harmless
    def on_train_end(self, logs: Any = None) -> None:
        self._events.forget()
        for save in self._saving:
            save.undo()
        self._saving = []

    @harmless
    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._events.wait("")

    @harmless
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._first_batch = batch
        self._events.phase("")

    @harmless
    def on_train_batch_end(self, batch: int, logs: Mapping[str, object] | None = None) -> None:
        events, batches = self._events, batch - self._first_batch + 1
        given = events.run.samples_per_step
        samples = None if given is None else given * batches
        events.end(events.number + batches, samples=samples, loss=(logs or {}).get("loss"))
        events.wait("")

    @harmless
    def on_test_begin(self, logs: Any = None) -> None:
        self._events.begin_aside()

    @harmless
    def on_test_end(self, logs: Any = None) -> None:
        self._events.end_aside("validation")

    @harmless
    def _begin_save(self) -> None:
        self._events.begin_aside()

    @harmless
    def _end_save(self) -> None:
        self._events.end_aside("checkpoint")
