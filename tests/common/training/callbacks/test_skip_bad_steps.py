"""Bad steps are left out, counted, and not repeated for ever."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from common.training.callbacks.skip_bad_steps import SkipBadSteps


class Toy(pl.LightningModule):
    """A loss whose gradient is what the batch says."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append(float(self.weight.detach()))
        return self.weight * batch.squeeze()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1.0)


def fit(gradients, callback):
    model = Toy()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(model, DataLoader(torch.tensor(gradients).view(-1, 1)))
    return model, trainer


def test_steps_that_are_not_finite_or_too_long_are_skipped_and_counted():
    callback = SkipBadSteps(max_norm=10.0)
    model, trainer = fit([1.0, float("nan"), 2.0, float("inf"), 50.0, 4.0], callback)
    assert model.seen == [0, -1, -1, -3, -3, -3]
    assert float(model.weight.detach()) == -7
    assert callback.skipped == {"0": 3}
    assert trainer.callback_metrics["train/skipped_steps"] == 3


def test_count_comes_back_with_a_checkpoint():
    callback, again = SkipBadSteps(max_norm=10.0), SkipBadSteps(max_norm=10.0)
    fit([50.0, 1.0], callback)
    again.load_state_dict(callback.state_dict())
    assert again.skipped == {"0": 1}


def test_a_run_that_only_skips_gives_up_with_the_remedy():
    with pytest.raises(RuntimeError, match=r"3 steps of the 0 in a row.*lower the learning rate"):
        fit([float("nan")] * 5, SkipBadSteps(give_up_after=3))
