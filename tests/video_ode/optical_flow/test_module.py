"""The system of optical flow: what it logs, writes and draws."""

import csv

import pytest
import torch
from pytorch_lightning import Trainer

from common.data.flow.driving import DrivingFlow
from common.errors import InputError
from common.metrics.flow import end_point_error
from tests.video_ode.fakes import DiscData
from video_ode.cli import main
from video_ode.evaluation.pictures import Scene
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.evaluation import FlowEvaluation, blended, warped
from video_ode.optical_flow.module import OpticalFlowModule
from video_ode.optical_flow.network import MotionPyramid


def module(channels=3):
    torch.manual_seed(0)
    return OpticalFlowModule(FlowEstimator(MotionPyramid(channels=channels, width=4, radius=1)))


def data(**options):
    return DrivingFlow((24, 32), n_train=4, n_val=2, n_test=2, batch_size=2, **options)


def trainer(folder, **options):
    return Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder, **options,
    )  # fmt: skip


def test_training_logs_flow_and_frames(tmp_path):
    made = module()
    before = [p.clone() for p in made.parameters()]
    run = trainer(tmp_path)
    run.fit(made, datamodule=data())
    assert {"val/epe", "val/f1_all", "val/psnr", "val/ssim", "train/loss"} <= set(
        run.callback_metrics
    )
    assert any(not torch.equal(a, b) for a, b in zip(before, made.parameters(), strict=True))


def test_the_test_compares_with_baselines(tmp_path, capsys):
    made, videos = module(), data()
    found = trainer(tmp_path).test(made, datamodule=videos, verbose=False)[0]
    rows = {r["row"]: r for r in csv.DictReader((tmp_path / "test_table.csv").open())}
    assert set(rows) == {"model", "zero flow, blend", "TV-L1", "iLK"}
    shown = capsys.readouterr().out
    assert all(row in shown for row in rows)
    batch = next(iter(videos.test_dataloader()))
    error = end_point_error(torch.zeros_like(batch.flow), batch.flow)[batch.visible].mean()
    assert float(rows["zero flow, blend"]["epe"]) == pytest.approx(float(error), rel=1e-4)
    # An untrained model does not move anything.
    assert found["test/epe"] == pytest.approx(float(error), rel=1e-4)


def test_videos_without_flow_and_flow_without_frames_between(tmp_path):
    plain = trainer(tmp_path / "a").test(module(1), datamodule=DiscData(2), verbose=False)[0]
    assert {"test/psnr", "test/ssim"} == set(plain)
    pairs = trainer(tmp_path / "b").test(module(), datamodule=data(n_frames=2), verbose=False)[0]
    assert "test/epe" in pairs
    assert "test/psnr" not in pairs


def test_scenes_show_frames_and_velocities():
    videos = data()
    videos.setup("test")
    batch = next(iter(videos.test_dataloader()))
    scenes = module().draw(batch, videos, torch.tensor([0.0, 0.25, 1.0]), 1)
    assert len(scenes) == 2
    assert all(isinstance(scene, Scene) for scene in scenes)
    frames, velocities, truth = scenes[0].samples
    assert frames.kinds == ["given", "predicted", "given"]
    assert torch.equal(frames.frames[0], batch.clip.frames[0, 0])
    assert torch.equal(frames.frames[2], batch.clip.frames[0, -1])
    assert velocities.frames.shape == truth.frames.shape == (3, 3, 24, 32)
    assert int(velocities.frames.min()) == 255  # white: no motion yet
    assert scenes[0].truth.kinds == ["true", "true", "true"]
    assert scenes[0].known.kinds == ["true", "none", "true"]


def test_a_checkpoint_of_the_command_line_gives_its_model_back(tmp_path):
    small = {"size": "[32,32]", "n_train": 4, "n_val": 2, "batch_size": 2, "num_workers": 0}
    options = [word for k, v in small.items() for word in (f"--data.{k}", str(v))]
    config = "video_ode/configs/optical_flow/flow_scenes.yaml"
    run = ["--trainer.default_root_dir", str(tmp_path), "--trainer.max_epochs", "1"]
    main(["fit", "--config", config, *options, *run])
    (path,) = tmp_path.rglob("last.ckpt")
    estimator = OpticalFlowModule.load_from_checkpoint(path).estimator
    assert estimator.motion_loss.smooth == 0.4
    state = torch.load(path, weights_only=True)["state_dict"]
    for name, weight in estimator.state_dict().items():
        assert torch.equal(weight, state[f"estimator.{name}"])


def test_frames_that_a_model_may_not_see_are_refused(tmp_path):
    videos = DiscData(2, observed=0.3)
    with pytest.raises(InputError, match="unobserved"):
        trainer(tmp_path).test(module(1), datamodule=videos, verbose=False)


def test_the_shape_of_the_data_is_checked(tmp_path):
    with pytest.raises(InputError, match="channels"):
        trainer(tmp_path).test(module(1), datamodule=data(), verbose=False)


def test_warping_by_the_true_flow_gives_the_frame_between():
    """Frames of a texture that moves by (4, 2) pixels; a method that knows its flow."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")

    def at(share):
        return (0.5 + 0.4 * torch.sin(0.3 * (x - 4 * share) + 0.2 * (y - 2 * share)))[None, None]

    def known(first, last):
        sign = 1.0 if torch.equal(first, at(0.0)) else -1.0
        return sign * torch.tensor([4.0, 2.0])[None, :, None, None].expand(1, 2, 20, 24)

    shares = torch.tensor([0.25, 0.5])
    flow, found = warped(known, at(0.0), at(1.0), shares)
    assert flow.unique().tolist() == [2.0, 4.0]
    true = torch.stack([at(0.25)[0], at(0.5)[0]])[None]
    assert float((found - true)[..., 2:-2, 4:-4].abs().max()) < 0.01
    assert float((blended(at(0.0), at(1.0), shares) - true).abs().max()) > 0.05


def test_evaluation_without_baselines_has_one_row():
    evaluation = FlowEvaluation(module().estimator, baselines=False)
    assert list(evaluation.methods) == ["model"]
