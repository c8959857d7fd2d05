"""Small real trainings with a Hugging Face Trainer, as a user writes them: `python transformers_training.py DIRECTORY`.

Prints, as JSON, what the trainings knew of themselves.
"""

import json
import sys
import time
from pathlib import Path

import torch
import transformers
from stepwatt.transformers import StepwattCallback

LENGTH, DATA_SECONDS, FORWARD_SECONDS, OPTIMIZER_SECONDS = 8, 0.02, 0.01, 0.005


class Sentences(torch.utils.data.Dataset):
    """Ten sequences of eight tokens; each takes its time."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        time.sleep(DATA_SECONDS / 4)
        tokens = torch.arange(index, index + LENGTH)
        return {"input_ids": tokens, "labels": tokens}


class SlowGpt2(transformers.GPT2LMHeadModel):
    def forward(self, *arguments, **named):
        time.sleep(FORWARD_SECONDS)
        return super().forward(*arguments, **named)


class SlowSgd(torch.optim.SGD):
    def step(self, closure=None):
        loss = super().step(closure)
        time.sleep(OPTIMIZER_SECONDS)
        return loss


class Broken(StepwattCallback):
    def _events(self, args, state):
        raise RuntimeError("a fault of our own")


def train(callback, directory, *, resume=None, **arguments):
    """Return the Trainer after its training; by default three steps of at most four sequences."""
    torch.manual_seed(1)
    config = transformers.GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32, n_positions=LENGTH)
    model, data = SlowGpt2(config), Sentences()
    defaults = {"num_train_epochs": 1, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no"}
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(
            str(directory), use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False,
            per_device_train_batch_size=4,
            **{**defaults, **arguments},
        ),
        train_dataset=data, eval_dataset=data, callbacks=[callback], optimizers=(SlowSgd(model.parameters(), lr=0.01), None),
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def main() -> None:
    directory = Path(sys.argv[1])
    callback, broken = StepwattCallback("plain"), Broken("broken")
    plain = train(
        callback, directory / "plain", num_train_epochs=2, eval_strategy="steps", eval_steps=2, save_strategy="steps",
        save_steps=2, include_num_input_tokens_seen="all",
    )  # fmt: skip
    known = {"losses": {line["step"]: line["loss"] for line in plain.state.log_history if "loss" in line}}
    known["evaluations"] = [line["eval_runtime"] for line in plain.state.log_history if "eval_runtime" in line]
    known["checkpoints"] = sorted(path.name for path in (directory / "plain").glob("checkpoint-*"))
    known["dropped"] = callback.run.dropped
    plain.evaluate()
    resumed = train(
        StepwattCallback("resumed"), directory / "resumed", num_train_epochs=2, logging_steps=100,
        resume=str(directory / "plain" / "checkpoint-4"),
    )  # fmt: skip
    known["resumed"] = resumed.state.global_step
    train(StepwattCallback("accumulating"), directory / "accumulating", gradient_accumulation_steps=2)
    known["broken"] = train(broken, directory / "broken").state.global_step
    known["is_broken"] = broken.is_broken
    sys.stdout.write(json.dumps(known))


if __name__ == "__main__":
    main()
