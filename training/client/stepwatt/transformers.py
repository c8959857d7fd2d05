"""Steps of a Hugging Face Trainer: `Trainer(…, callbacks=[StepwattCallback("llm-7b", tokens_per_sample=4096)])`.

A step is one of the optimiser (`state.global_step`), with all the batches that it accumulates; the Trainer tells no border
between forward and backward, so both are the phase "forward_backward". Its clock is the host's: on a GPU, work that was
only queued counts where the loop waits for it. The loss is what the Trainer itself logs, the mean since its last log.
"""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from .loop_events import LoopEvents, harmless
from .runs import Run


class StepwattCallback(TrainerCallback):  # type: ignore[misc]
    """Takes what `stepwatt.run` takes. Samples go by the Trainer's batch size where `samples_per_step` is not given."""

    def __init__(self, name: str, **options: Any) -> None:
        self.is_broken = False
        self._name, self._options = name, options
        self._loop: LoopEvents | None = None
        self._tokens_seen = 0
        self._is_predicting = False

    @property
    def run(self) -> Run | None:
        """Return the run, None before the training has begun."""
        return self._loop.run if self._loop else None

    def _events(self, args: Any, state: Any) -> LoopEvents:
        if self._loop is None:
            place = {"rank": args.process_index, "world_size": args.world_size}
            self._loop = LoopEvents(Run(self._name, **{**place, **self._options}), state.global_step)
        return self._loop

    @harmless
    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).number = state.global_step
        self._tokens_seen = state.num_input_tokens_seen

    @harmless
    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).wait()

    @harmless
    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).phase("forward_backward")

    @harmless
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).phase("optimizer")

    @harmless
    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).phase("")

    @harmless
    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        events = self._events(args, state)
        is_given = events.run.samples_per_step is not None
        samples = None if is_given else step_samples(args, state, named.get("train_dataloader"))
        tokens = (state.num_input_tokens_seen - self._tokens_seen) / args.world_size  # the Trainer counts all ranks'
        self._tokens_seen = state.num_input_tokens_seen
        # What is about to be logged tells the loss: the step waits for it, with its time already taken.
        events.end(state.global_step, is_held=control.should_log, samples=samples, tokens=tokens or None)
        events.wait()

    @harmless
    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        events = self._events(args, state)
        if not self._is_predicting and not events.is_in_step:  # not within an evaluation or a step
            events.release(loss=(logs or {}).get("loss"))
            events.wait()

    @harmless
    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._is_predicting = True

    @harmless
    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end_aside("validation", args, state)

    @harmless
    def on_predict(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end_aside("evaluation", args, state)

    @harmless
    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._end_aside("checkpoint", args, state)

    @harmless
    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).wait()  # what comes now until the next epoch begins may be an evaluation

    @harmless
    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._events(args, state).forget()

    def _end_aside(self, name: str, args: Any, state: Any) -> None:
        self._is_predicting = False
        events = self._events(args, state)
        if events.is_waiting:  # outside of a training nothing tells when it began
            events.aside_since_opening(name)


def step_samples(args: Any, state: Any, loader: Any) -> int:
    """Return this rank's samples of the step that has just ended: fewer in an epoch's last one.

    Of a data set without a length every step counts as full.
    """
    batch = state.train_batch_size or args.train_batch_size
    full = batch * args.gradient_accumulation_steps
    data: Any = getattr(loader, "dataset", None)
    if not hasattr(data, "__len__") or state.epoch is None or not float(state.epoch).is_integer():
        return int(full)
    # Several ranks get batches of one size, filled up with samples of the beginning.
    in_epoch = len(data) if args.world_size == 1 and not args.dataloader_drop_last else len(loader) * batch
    return int(in_epoch % full or full)
