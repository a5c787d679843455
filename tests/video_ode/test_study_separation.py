"""Studies of the separation: what they run, and their tables."""

import csv
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from common.training.runs import run_name
from tests.video_ode.models import FIELD, separation
from video_ode import study_separation as study
from video_ode.dynamics.residual import ResidualBlocks
from video_ode.frames.coordinates import CoordinateDecoder
from video_ode.frames.dcgan import DCGANEncoder
from video_ode.module import VideoPredictionModule
from video_ode.separation.model import Separation


@pytest.fixture
def calls(monkeypatch):
    """Command lines of the study, whose test writes a table of made-up numbers."""
    called = []

    def main(words):
        called.append(words)
        if words[0] != "test":
            return
        value = dict(pairwise(words))
        configs = [after for word, after in pairwise(words) if word == "--config"]
        folder = Path(value["--trainer.default_root_dir"])
        run = folder / "video_ode" / run_name(configs) / "version_0"
        run.mkdir(parents=True)
        worse = any("without" in word or "invariance" in word for word in words)
        with (run / "test_table.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["row", "psnr", "ssim", "mse", "mse_given"])
            writer.writeheader()
            for row in ("model", "model, content swap", study.COPY, study.MEAN):
                mse = 0.002 if worse else 0.001
                numbers = {"psnr": 20 - 3 * worse, "ssim": 0.5, "mse": mse, "mse_given": 0.1}
                writer.writerow({"row": row, **numbers})

    monkeypatch.setattr(study, "main", main)
    return called


def test_waves_compares_with_and_without_content(calls, tmp_path):
    study.waves(seeds=2, out=tmp_path)
    assert len(calls) == 8
    overlay = str(study.CONFIGS / study.WITHOUT_S)
    assert sum(overlay in words for words in calls) == 4
    text = (tmp_path / "waves.md").read_text()
    assert "| with S | 1.00e-03 ± 0.00e+00 |" in text
    assert "MSE less that of with S: without S +1.00e-03 ± 0.00e+00." in text
    assert "copy of last given 1.00e-03" in text
    study.waves(seeds=2, out=tmp_path)
    assert len(calls) == 8  # finished runs are kept


def test_swap_compares_with_and_without_invariance(calls, tmp_path):
    study.swap(seeds=1, out=tmp_path)
    assert ["--model.predictor.invariance" in words for words in calls] == [False] * 2 + [True] * 2
    text = (tmp_path / "swap.md").read_text()
    assert "| with invariance | 20.00 |" in text
    assert "without -3.00 (one seed)" in text


def test_points_compares_grids(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = Separation(
        (1, 64, 64),
        partial(DCGANEncoder, width=2, code_size=4),
        partial(CoordinateDecoder, width=4),
        partial(ResidualBlocks, field=FIELD),
        partial(DCGANEncoder, width=2, code_size=4),
        n_given=2,
    )
    module = VideoPredictionModule(model, 2)
    load = staticmethod(lambda path: module)
    monkeypatch.setattr(VideoPredictionModule, "load_from_checkpoint", load)
    study.points(Path("a.ckpt"), n=2, out=tmp_path / "points.md")
    lines = (tmp_path / "points.md").read_text().splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:]] == ["64", "128", "128", "128"]
    module.predictor = separation()
    with pytest.raises(InputError, match="holds no separation for WaveEq"):
        study.points(Path("a.ckpt"), out=tmp_path / "points.md")
