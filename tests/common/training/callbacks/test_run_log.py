"""What TensorBoard shows of a run: settings, learning rates, the best value, enough points."""

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from common.training.callbacks.checkpointing import BestCheckpoint
from common.training.callbacks.run_log import RunLog, readable
from common.training.callbacks.settings import flattened
from tests.common.training.games import Game, Numbers

SETTINGS = flattened(
    {
        "seed_everything": 0,
        "trainer": {"max_epochs": 2, "max_steps": -1, "log_every_n_steps": None, "devices": 1},
        "model": {
            "class_path": "a.b.Flow",
            "init_args": {
                "solver": {"class_path": "a.Solver", "init_args": {"tol": 0.1, "debug": False}},
                "shape": [1, 28, 28],
                "lr": None,
            },
        },
        "data": {"class_path": "Digits", "init_args": {"batch_size": 8, "num_workers": 4}},
        "best": {"monitor": "val/gap"},
    }
)


class Rising(Game):
    """A game with a value that rises and falls."""

    def validation_step(self, batch, batch_idx):
        self.log("val/gap", [3.0, 5.0, 4.0][self.current_epoch])


def test_settings_are_readable():
    assert readable(SETTINGS) == {
        "seed_everything": 0,
        "trainer.max_epochs": 2,
        "model": "Flow",
        "model.solver": "Solver",
        "model.solver.tol": 0.1,
        "model.shape": "[1, 28, 28]",
        "data": "Digits",
        "data.batch_size": 8,
    }


def test_tensorboard_has_settings_rates_and_the_best_value(tmp_path):
    best = BestCheckpoint("val/gap", "max")
    best.dirpath = str(tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=TensorBoardLogger(tmp_path, "", "", default_hp_metric=False),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[RunLog(SETTINGS), best],
    )
    trainer.fit(Rising(decay="linear"), Numbers(12))
    events = EventAccumulator(str(tmp_path)).Reload()
    scalars = {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert "hp_metric" not in scalars
    assert scalars["best/gap"] == [3.0, 5.0]
    assert len(scalars["train/gap"]) == 18  # every step, because there are few
    assert scalars["lr/critic"] == pytest.approx([0.1 * (1 - k / 18) for k in range(18)])
    assert scalars["lr/critic"] == scalars["lr/generator"]
    metadata = events.summary_metadata
    parsed = lambda tag: HParamsPluginData.FromString(metadata[tag].plugin_data.content)
    names = parsed("_hparams_/session_start_info").session_start_info.hparams
    assert set(names) == set(readable(SETTINGS))
    experiment = parsed("_hparams_/experiment").experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["best/gap"]


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [(8, {}, 1), (60, {}, 3), (4000, {}, 50), (4000, {"max_steps": 40}, 4), (4000, {"own": 7}, 7)],
)
def test_short_epochs_get_ten_points(count, options, expected):
    own = options.pop("own", None)
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        log_every_n_steps=own,
        callbacks=[RunLog({"trainer.log_every_n_steps": own}), Stop()],
        **{"max_epochs": 1, **options},
    )
    trainer.fit(Game(), Numbers(count))
    assert trainer.log_every_n_steps == expected


class Stop(pl.Callback):
    """Ends the training after its first batch."""

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = True
