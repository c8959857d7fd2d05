"""A real Lightning training on two processes of this machine, which Lightning itself starts: no torchrun, no RANK.

`python lightning_two_ranks.py DIRECTORY`; each process prints its number.
"""

import json
import sys

import lightning.pytorch as pl
import torch
from stepwatt.lightning import StepwattCallback


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return torch.nn.functional.mse_loss(self.layer(batch[0]), batch[0])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def main() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(16.0).reshape(16, 1))
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=2, strategy="ddp", default_root_dir=sys.argv[1], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[StepwattCallback("two ranks")],
    )  # fmt: skip
    trainer.fit(Model(), torch.utils.data.DataLoader(data, batch_size=4))
    sys.stdout.write(json.dumps({"rank": trainer.global_rank}) + "\n")


if __name__ == "__main__":
    main()
