"""Small real trainings with Lightning, as a user writes them: `python lightning_training.py DIRECTORY [PACKAGE]`.

Prints, as JSON, what the trainings knew of themselves.
"""

import importlib
import json
import sys
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE = sys.argv[2]
pl = importlib.import_module(PACKAGE)
ModelCheckpoint = importlib.import_module(f"{PACKAGE}.callbacks").ModelCheckpoint

from stepwatt.lightning import StepwattCallback  # noqa: E402 — it goes by what is loaded

DATA_SECONDS, FORWARD_SECONDS, BACKWARD_SECONDS, OPTIMIZER_SECONDS, VALIDATION_SECONDS = 0.02, 0.01, 0.015, 0.005, 0.03


class Points(torch.utils.data.Dataset):
    """Ten points; each takes its time."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        time.sleep(DATA_SECONDS / 4)
        return {"x": torch.tensor([float(index)]), "y": torch.tensor([2.0 * index])}


class Slow(torch.autograd.Function):
    """The identity, whose gradient takes its time."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(BACKWARD_SECONDS)
        return gradient


class SlowSgd(torch.optim.SGD):
    def step(self, closure=None):
        loss = super().step(closure)
        time.sleep(OPTIMIZER_SECONDS)
        return loss


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        time.sleep(FORWARD_SECONDS)
        return torch.nn.functional.mse_loss(Slow.apply(self.layer(batch["x"])), batch["y"])

    def validation_step(self, batch, _):
        time.sleep(VALIDATION_SECONDS)

    def configure_optimizers(self):
        return SlowSgd(self.parameters(), lr=1e-3)


class Operations(TorchDispatchMode):
    """Takes down what is asked of the device."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


operations = Operations()


class Watched(StepwattCallback):
    """The callback, each of whose hooks runs under watch."""

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if not name.startswith("on_"):
            return value

        def hook(*arguments):
            with operations:
                value(*arguments)

        return hook


class Broken(StepwattCallback):
    @property
    def _events(self):
        raise RuntimeError("a fault of our own")


def train(callback, directory, *, epochs=1, resume=None, **options):
    data, loader = Points(), torch.utils.data.DataLoader
    checkpoints = ModelCheckpoint(directory, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, callbacks=[callback, checkpoints], **options,
    )  # fmt: skip
    trainer.fit(Model(), loader(data, batch_size=4), loader(data, batch_size=10), ckpt_path=resume)
    return trainer.global_step


def main() -> None:
    directory = Path(sys.argv[1])
    callback, broken = Watched("plain"), Broken("broken")
    known = {"plain": train(callback, directory / "plain", val_check_interval=2), "operations": operations.names}
    known["checkpoints"] = sorted(path.name for path in (directory / "plain").glob("*.ckpt"))
    known["dropped"] = callback.run.dropped
    resume = str(directory / "plain" / "step=3.ckpt")
    known["resumed"] = train(StepwattCallback("resumed"), directory / "resumed", epochs=2, resume=resume)
    accumulating = StepwattCallback("accumulating")
    known["accumulating"] = train(accumulating, directory / "accumulating", accumulate_grad_batches=2)
    known["broken"], known["is_broken"] = train(broken, directory / "broken"), broken.is_broken
    sys.stdout.write(json.dumps(known))


if __name__ == "__main__":
    main()
