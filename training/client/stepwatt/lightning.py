"""Steps of a Lightning training: `Trainer(callbacks=[StepwattCallback("llm-7b", tokens_per_sample=4096)])`.

A step is one of the optimiser (`trainer.global_step`), with all the batches that it accumulates. Its clock is the host's:
on a GPU, work that was only queued counts where the loop waits for it. The loss is not told: Lightning has it on the device.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .loop_events import LoopEvents, TimedCall, harmless
from .runs import Run

if "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        from pytorch_lightning import Callback


class StepwattCallback(Callback):  # type: ignore[misc]
    """Takes what `stepwatt.run` takes. Samples are counted from the batches where `samples_per_step` is not given."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        self.is_broken = False
        self._name, self._options = name, options
        self._loop: LoopEvents | None = None
        self._saving: TimedCall | None = None
        self._samples: float | None = 0

    @property
    def run(self) -> Run | None:
        """Return the run, None before the training has begun."""
        return self._loop.run if self._loop else None

    @property
    def _events(self) -> LoopEvents:
        if self._loop is None:
            raise RuntimeError("a hook came before setup")
        return self._loop

    @harmless
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        place = {"rank": trainer.global_rank, "world_size": trainer.world_size}
        if self._loop is None:
            self._loop = LoopEvents(Run(self._name, **{**place, **self._options}))
        self._loop.number = trainer.global_step
        # Lightning tells when a checkpoint begins, and not when it is written.
        self._saving = TimedCall(trainer, "save_checkpoint", self._begin_aside, lambda: self._end_aside("checkpoint"))

    @harmless
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._events.forget()
        if self._saving:
            self._saving.undo()
            self._saving = None

    @harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._events.number = trainer.global_step  # a checkpoint may have been loaded since setup
        self._events.wait()  # one in the middle of an epoch does not begin it again

    @harmless
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._samples = 0
        self._events.wait()

    @harmless
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        samples = batch_samples(batch)
        self._samples = None if samples is None or self._samples is None else self._samples + samples
        self._events.phase("forward")

    @harmless
    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._events.phase("optimizer")

    @harmless
    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        self._events.phase("backward")

    @harmless
    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self._events.phase("")

    @harmless
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._events.phase("optimizer")

    @harmless
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        events = self._events
        if trainer.global_step == events.number:  # it goes on: gradients are still being accumulated
            events.phase("data")
            return
        is_given = events.run.samples_per_step is not None
        events.end(trainer.global_step, samples=None if is_given else self._samples)
        self._samples = 0
        events.wait()

    @harmless
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._events.forget()

    @harmless
    def _begin_aside(self) -> None:
        self._events.begin_aside()

    @harmless
    def _end_aside(self, name: str) -> None:
        self._events.end_aside(name)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin_aside()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._end_aside("validation")

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        self._begin_aside()

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        self._end_aside("evaluation")


def batch_samples(batch: Any) -> int | None:
    """Return the length of the first dimension of the first tensor in the batch, None where there is none.

    A shape lies on the host: reading it waits for no device.
    """
    shape = getattr(batch, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if not isinstance(batch, (list, tuple)):
        return None
    return next((found for found in map(batch_samples, batch) if found is not None), None)
