"""The Python blocks of mimic/README.md run.

The recipe in docs/results/mimic.md is not run: segmentation-models-pytorch isn't installed.
"""

import functools
import re
from pathlib import Path

import pytest
import pytorch_lightning as pl

README = Path(__file__).parents[2] / "mimic" / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_blocks_to_run():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1])
def test_a_block_runs(block, monkeypatch, tmp_path):
    short = {
        "accelerator": "cpu",
        "default_root_dir": tmp_path,
        "limit_train_batches": 2,
        "limit_val_batches": 2,
        "enable_progress_bar": False,
    }
    monkeypatch.setattr(pl, "Trainer", functools.partial(pl.Trainer, **short))
    names = {}
    exec(block, names)
    if "audit" in names:
        assert names["audit"].measured
