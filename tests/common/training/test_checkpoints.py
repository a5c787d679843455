"""What a checkpoint resumes is what would have been; its record of files is believed with care."""

import errno
import os
import sys

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from common.errors import InputError, RunError
from common.training.callbacks.checkpointing import BestCheckpoint, LastCheckpoint
from common.training.callbacks.random_state import RandomState
from common.training.callbacks.settings import Settings
from common.training.checkpoints import CheckpointFiles, inspect, read_checkpoint
from common.training.cli import run_command
from common.training.trust import named_classes, plain_record, trusted_class


def test_files_outside_the_checkpoints_folder_are_forgotten(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    inside = str(folder / "best.ckpt")
    folder.mkdir(parents=True)
    (folder / "best.ckpt").touch()
    (tmp_path / "victim.txt").touch()
    outside = str(folder / ".." / ".." / "victim.txt")
    callback = BestCheckpoint()
    state = {
        **callback.state_dict(),
        "dirpath": str(folder),
        "best_k_models": {inside: torch.tensor(1.0), outside: torch.tensor(2.0)},
        "best_model_path": inside,
        "kth_best_model_path": outside,
    }
    callback.dirpath = str(folder)
    lying = {**state, "dirpath": str(folder / ".." / ".."), "best_model_path": outside}
    callback.load_state_dict(lying)
    assert callback.best_model_path == ""
    callback.load_state_dict(state)
    assert set(callback.best_k_models) == {inside}
    assert callback.best_model_path == inside
    assert callback.kth_best_model_path == ""


def test_reading_a_checkpoint_runs_nothing_and_says_what_is_missing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": {}, "extra": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"it holds io\.open, which is no plain data"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
    torch.save({"weights": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="no state_dict"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="there is no file"):
        read_checkpoint(tmp_path / "missing.ckpt")


class Stranger(torch.nn.Module):
    """A class that a user has loaded, and that no checkpoint was allowed to name."""


@pytest.mark.parametrize(
    "text", ["Stranger", " Stranger ", "os.system", "{a: b}", '{"a": 1}', "a: b", "x.yaml", "[1]"]
)
def test_texts_that_stand_for_more_are_refused(text):
    with pytest.raises(InputError):
        plain_record({"network": {"init_args": [text]}}, "x.ckpt")


def test_plain_records_come_back_as_they_were():
    record = {
        "_class_path": "msflow.module.MultiScaleFlowModule",
        "sizes": [1, 2.5, None, True],
        "words": {"decay": "cosine", "file": "weights/alexnet.pth", "time": "0:20:0.5"},
        "net": {"class_path": "torch.nn.ReLU", "init_args": {}},
    }
    assert plain_record(record, "x.ckpt") == record
    assert named_classes(record) == ["msflow.module.MultiScaleFlowModule", "torch.nn.ReLU"]


def bomb(_):
    return bytearray, (10**11,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old format"])
def test_a_file_that_asks_for_memory_is_refused_before_it_is_read(zipped, tmp_path):
    content = {"state_dict": {"w": torch.ones(3)}}
    torch.save(content, tmp_path / "good.ckpt", _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(tmp_path / "good.ckpt")["state_dict"]["w"].sum() == 3
    content["x"] = type("Bomb", (), {"__reduce__": bomb})()
    torch.save(content, tmp_path / "bomb.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="bytearray, which is no plain data"):
        read_checkpoint(tmp_path / "bomb.ckpt")


def test_a_save_keeps_the_file_before_it_also_without_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    for link in (os.link, no_links):
        monkeypatch.setattr(os, "link", link)
        path = tmp_path / link.__name__ / "last.ckpt"
        for step in range(3):
            CheckpointFiles().save_checkpoint({"state_dict": {}, "step": step}, path)
        assert read_checkpoint(path)["step"] == 2
        assert read_checkpoint(f"{path}.previous")["step"] == 1
        path.unlink()
        with pytest.warns(UserWarning, match="the checkpoint before it is used"):
            assert read_checkpoint(path)["step"] == 1
        assert len(list(path.parent.iterdir())) == 1


def test_what_could_not_be_read_again_is_not_saved(tmp_path):
    path = tmp_path / "last.ckpt"
    states = {"names": {"a"}, "bytes": b"x", "sizes": (1, 2.5, None)}
    CheckpointFiles().save_checkpoint({"state_dict": {}, "callbacks": states}, path)
    assert read_checkpoint(path)["callbacks"] == states
    with pytest.raises(RunError, match="could not be read again"):
        CheckpointFiles().save_checkpoint({"state_dict": {}, "callbacks": Walk()}, path)
    assert read_checkpoint(path)["callbacks"] == states


def test_inspection_says_what_is_inside_and_loads_no_code(tmp_path, capsys):
    record = {"_class_path": "nowhere.Model", "net": {"class_path": "os.system"}}
    weights = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}
    torch.save({"state_dict": weights, "hyper_parameters": record, "global_step": 7},
               tmp_path / "x.ckpt")  # fmt: skip
    run_command({"inspect": inspect}, ["inspect", str(tmp_path / "x.ckpt")])
    out = capsys.readouterr().out
    for words in (
        "step:        7",
        "10 in 2",
        "nowhere.Model",
        "os.system",
        "weights only",
    ):
        assert words in out
    assert "nowhere" not in sys.modules


class Walk(LightningModule):
    """Adds noise to a weight, and notes it wherever it is validated."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.validated = {}

    def training_step(self, batch):
        return self.weight * torch.randn(())

    def validation_step(self, batch):
        batches = self.trainer.fit_loop.total_batch_idx + 1
        self.validated[batches] = (self.weight + torch.randn(())).item()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def train_dataloader(self):
        return DataLoader(range(6), generator=torch.Generator())

    def val_dataloader(self):
        return DataLoader(range(2), generator=torch.Generator())


class Plug(LastCheckpoint):
    """Pulled as soon as a given step is saved."""

    pulled_at = None

    def _save_checkpoint(self, trainer, filepath):
        super()._save_checkpoint(trainer, filepath)
        if trainer.global_step == self.pulled_at:
            raise RuntimeError("pulled")


def walk(folder, resume=None, pulled_at=None, every=1, **options):
    torch.manual_seed(0)
    last = Plug(every)
    last.dirpath, last.pulled_at = str(folder), pulled_at
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        num_sanity_val_steps=0,
        callbacks=[RandomState(), last],
        **quiet,
        **options,
    )
    model = Walk()
    trainer.fit(model, ckpt_path=resume, weights_only=True)
    return model


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 3},
        {"val_check_interval": 4, "check_val_every_n_epoch": None},
        {"check_val_every_n_epoch": 2},
        {"accumulate_grad_batches": 2},
        {"accumulate_grad_batches": 2, "val_check_interval": 3},
        {"limit_val_batches": 0},
        {"limit_val_batches": 0, "val_check_interval": 3},
    ],
    ids=str,
)
def test_a_run_goes_on_from_any_step_as_if_it_had_not_stopped(options, tmp_path):
    whole = walk(tmp_path / "whole", **options)
    assert (not whole.validated) == (options.get("limit_val_batches") == 0)
    per_step = options.get("accumulate_grad_batches", 1)
    steps = 18 // per_step
    for step in range(1, steps):
        folder = tmp_path / str(step)
        with pytest.raises(RuntimeError, match="pulled"):
            walk(folder, pulled_at=step, **options)
        resumed = walk(folder, resume=folder / "last.ckpt", **options)
        assert resumed.weight == whole.weight, step
        later = {k: seen for k, seen in whole.validated.items() if k > step * per_step}
        assert resumed.validated == later, step
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == steps


def test_a_wish_to_stop_that_is_not_granted_saves_no_more_often(tmp_path, monkeypatch):
    saved, save, step = [], Plug._save_checkpoint, Walk.training_step

    def stopping(self, batch):
        self.trainer.should_stop = True
        return step(self, batch)

    def noting(self, trainer, filepath):
        saved.append(trainer.global_step)
        save(self, trainer, filepath)

    monkeypatch.setattr(Walk, "training_step", stopping)
    monkeypatch.setattr(Plug, "_save_checkpoint", noting)
    walk(tmp_path, every=None, min_epochs=3)
    assert saved == [6, 12, 18]


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("step", [1, 5, 6, 8])
def test_a_run_that_was_to_end_early_goes_on_as_if_it_had_not(step, tmp_path):
    whole = walk(tmp_path / "whole")
    walk(tmp_path, max_steps=step, every=None)
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == step
    assert walk(tmp_path, resume=tmp_path / "last.ckpt").weight == whole.weight


def test_classes_that_a_package_exports_are_trusted_and_are_no_change_of_settings():
    assert trusted_class("msflow.MultiScaleFlow", "a.ckpt").__module__ == "msflow.flow"
    with pytest.raises(InputError, match="no class of this project"):
        trusted_class("msflow.exported", "a.ckpt")
    key = "model.init_args.flow.class_path"
    now = Settings({key: "msflow.MultiScaleFlow"})
    assert now._compare({key: "msflow.flow.MultiScaleFlow"}, now.values) == []
    with pytest.raises(InputError, match="changed"):
        now._compare({key: "msflow.flow.OtherFlow"}, now.values)


def test_a_class_method_is_trusted_if_it_takes_no_arguments():
    yolo = "video_ode.objects.detection.yolo.YOLO"
    assert trusted_class(f"{yolo}.pretrained", "a.ckpt").__name__ == "YOLO"
    unet = "video_ode.objects.segmentation.unet.UNet"
    for method in ("pretrained", "pretrained_bottleneck"):
        assert trusted_class(f"{unet}.{method}", "a.ckpt").__name__ == "UNet"
    others = [
        f"{yolo}.forward",
        f"{yolo}.pretrained.forward",
        "torch.nn.Embedding.from_pretrained",
        "video_ode.module.VideoPredictionModule.load_from_checkpoint",
        "pytorch_lightning.Trainer.pretrained",
    ]
    for path in others:
        with pytest.raises(InputError, match="no class of this project"):
            trusted_class(path, "a.ckpt")
