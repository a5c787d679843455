"""The system of video prediction: what it logs, and what its scores leave as it was."""

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from common.errors import InputError
from common.training.callbacks.function_evaluations import FunctionEvaluations
from tests.video_ode.fakes import DiscData
from tests.video_ode.models import DCGAN, FIELD
from video_ode.dynamics.residual import ResidualEuler
from video_ode.evaluation.protocol import Evaluation
from video_ode.module import VideoPredictionModule
from video_ode.predictor import VideoPredictor
from video_ode.srvp.model import SRVP


def model():
    torch.manual_seed(0)
    return SRVP(
        (1, 32, 32), *DCGAN, lambda y, z: ResidualEuler(y, z, FIELD), y_size=4, z_size=3,
        n_inference=3, hidden=8, prior_width=8,
    )  # fmt: skip


def fit(predictor, *callbacks):
    torch.manual_seed(0)
    module = VideoPredictionModule(predictor, 3)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        limit_train_batches=1, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, datamodule=DiscData(count=4))
    return module, trainer


class Calls(Callback):
    """Counts the calls of the dynamics within a validation batch, as hooks of callbacks do."""

    def on_validation_batch_start(self, trainer, pl_module, *_):
        self.seen = 0
        self.hook = pl_module.predictor.dynamics.register_forward_hook(self.count)

    def count(self, *_):
        self.seen += 1

    def on_validation_batch_end(self, trainer, pl_module, *_):
        self.hook.remove()


def test_scores_are_logged_and_change_neither_training_nor_what_callbacks_see(monkeypatch):
    calls = Calls()
    module, trainer = fit(model(), FunctionEvaluations(), calls)
    logged = trainer.callback_metrics
    assert {"val/psnr", "val/psnr_given", "val/nll", "val/kl"} <= set(logged)
    assert calls.seen == 7  # one a frame of the prediction, none of the scores
    assert logged["val/nfe_forward/predictor.dynamics"] == 1  # of the last of these calls
    monkeypatch.setattr(VideoPredictionModule, "_log_scores", lambda *_: None)
    plain, without = fit(model())
    assert "val/nll" not in without.callback_metrics
    for ours, theirs in zip(module.parameters(), plain.parameters(), strict=True):
        assert (ours == theirs).all()


class Copy(VideoPredictor):
    """Repeats the last given frame."""

    def predict(self, video, times, target_times, n_samples=1, mask=None):
        return video[:, -1:].expand(n_samples, -1, len(target_times), -1, -1, -1)


def test_a_predictor_without_a_loss_is_tested_but_not_trained(tmp_path):
    with pytest.raises(InputError, match="Copy has no loss"):
        fit(Copy())
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=[Evaluation()],
                      default_root_dir=tmp_path, enable_progress_bar=False)  # fmt: skip
    (logged,) = trainer.test(VideoPredictionModule(Copy(), 3), DiscData(), verbose=False)
    assert logged["test/psnr_margin"] <= 0
