"""The study of feature decoders: what it runs, and one small run of it."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from common.ode.solve import Solver
from video_ode import study_decoders as study
from video_ode.dynamics.fields import ConvField
from video_ode.dynamics.ode import NeuralODE
from video_ode.objects.detection.yolo import YOLO
from video_ode.objects.module import FeaturePredictionModule
from video_ode.objects.predictor import FeaturePredictor


def model():
    """System that predicts features; its last layers have learned nothing yet."""
    torch.manual_seed(0)
    solver = Solver(method="rk4", step_size=1.0)
    dynamics = partial(NeuralODE, field=partial(ConvField, width=4), solver=solver)
    predictor = partial(FeaturePredictor, dynamics=dynamics, width=4)
    return FeaturePredictionModule(YOLO.pretrained(), predictor).eval()


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Command lines of a study of one decoder of frames of 32 px, trained for one step."""
    folder, main, called = tmp_path / "configs", study.main, []
    kept = {"convolutional": "decoder_convolutional"}
    config = yaml.safe_load((study.CONFIGS / study.BASE).read_text())
    config["model"]["init_args"]["decoder"]["init_args"] |= {"shape": [3, 32, 32], "width": 2}
    small = {"size": [32, 32], "n_train": 4, "n_val": 2, "n_test": 2}
    config["data"]["init_args"]["videos"]["init_args"] |= small
    config["data"]["init_args"]["batch_size"] = 4
    config["trainer"] |= {"max_epochs": 1, "check_val_every_n_epoch": 1}
    (folder / "ablations").mkdir(parents=True)
    (folder / study.BASE).write_text(yaml.safe_dump(config))
    overlay = "ablations/decoder_convolutional.yaml"
    (folder / overlay).write_text((study.CONFIGS / overlay).read_text())
    for name, value in {"CONFIGS": folder, "DECODERS": kept, "STEPS": 2}.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "SHAPE", (3, 32, 32))
    monkeypatch.setattr(study, "main", lambda words: (called.append(words), main(words)))
    load = staticmethod(lambda path: model())
    monkeypatch.setattr(FeaturePredictionModule, "load_from_checkpoint", load)
    return called


def test_every_overlay_exists():
    for overlay in study.DECODERS.values():
        assert overlay is None or (study.CONFIGS / f"ablations/{overlay}.yaml").is_file()


def test_the_study_decodes_with_each_decoder_and_goes_on(calls, tmp_path):
    options = {"n": 2, "out": tmp_path / "study", "cache": str(tmp_path / "cache")}
    study.frames(Path("a.ckpt"), **options)
    assert len(calls) == 1
    lines = (tmp_path / "study" / "frames.md").read_text().splitlines()
    rows = [*study.DECODERS, study.OPTIMIZED, "*features themselves*"]
    rows += ["*last given frame*", "*mean colour*"]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == rows
    assert lines[0].count("|") == 1 + 1 + 9
    with Image.open(tmp_path / "study" / "frames.png") as picture:
        assert min(picture.size) > 300
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "study").glob("*/*.json")}
    assert len(kept) == 1 + 2
    study.frames(Path("a.ckpt"), **options)
    assert len(calls) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())


def test_what_is_decoded_are_true_and_predicted_features_of_the_same_frames(monkeypatch):
    monkeypatch.setattr(study, "SHAPE", (3, 32, 32))
    batch, parts = study.decoded_parts(system := model(), 2)
    assert [(part.source, part.frame) for part in parts] == [
        ("true", 5), ("+3", 5), ("true", 8), ("+6", 8),
    ]  # fmt: skip
    given = [x[:, :3] for x in batch.features]
    with torch.no_grad():
        path = system.predictor(given, torch.arange(3.0), torch.tensor([5.0, 8.0]))
        true = system.extractor.features(batch.clip.frames[:, 5] / 255)
    for part, k in ((parts[1], 0), (parts[3], 1)):
        for found, expected in zip(part.features, path.features, strict=True):
            torch.testing.assert_close(found, expected[:, k], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts[0].features[1], true[1], rtol=1e-4, atol=1e-4)
    assert torch.equal(parts[3].last, batch.clip.frames[:, 2] / 255)
    scores = study.scores(system, batch, parts, lambda part: part.last)
    assert scores["psnr true"] == pytest.approx((scores["psnr +3"] + scores["psnr +6"]) / 2)
    scores = study.scores(system, batch, parts, None)
    assert scores["feature_error true"] == 0 < scores["feature_error +3"]
    assert "psnr true" not in scores
