"""A checkpoint's record of files is believed only inside its own folder."""

import pytest
import torch

from common.checkpoints import BestCheckpoint, read_checkpoint
from common.errors import InputError


def test_files_outside_the_checkpoints_folder_are_forgotten(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    inside = str(folder / "best.ckpt")
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
    with pytest.raises(InputError, match="can't be read as a checkpoint"):
        read_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()
    torch.save({"weights": {}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="no state_dict"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="no checkpoint file"):
        read_checkpoint(tmp_path / "missing.ckpt")
