"""New systems enter by new files and YAML alone: no base class is touched."""

import csv

import pytest
import torch
from PIL import Image
from torch import nn

from common.flows.cnf import CNF
from common.ode.divergence import Exact
from common.ode.solve import Solver
from msflow import cli as msflow
from tests.stubs.taylor import TaylorPenalty
from tests.stubs.video_gan import VideoGAN
from video_ode import cli as video_ode

TRAINER = """
trainer:
  accelerator: cpu
  max_epochs: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""
DIGITS = """
data:
  class_path: MovingDigits
  init_args:
    {n_digits: 1, canvas: 16, digit: 8, n_frames: 5, n_train: 8, n_val: 4, n_test: 4,
     batch_size: 4}
"""
ODE = "class_path: video_ode.dynamics.ode.NeuralODE"
GAN = (
    f"""
model:
  class_path: tests.stubs.video_gan.VideoGAN
  init_args:
    generator:
      class_path: tests.stubs.video_gan.LatentGenerator
      init_args:
        shape: [1, 16, 16]
        dynamics:
          {ODE}
          init_args: {{field: common.nn.mlp.MLPField, solver: {{method: rk4, step_size: 0.5}}}}
best: {{monitor: val/gap, mode: min}}
"""
    + DIGITS
    + TRAINER
    + "  callbacks: [{class_path: AnimatedSamples, init_args: {n: 2}}]\n"
)
PDE = (
    f"""
model:
  class_path: video_ode.module.VideoPredictionModule
  init_args:
    n_cond: 2
    predictor:
      class_path: tests.stubs.pde.PDEModel
      init_args:
        shape: [1, 16, 16]
        dynamics:
          {ODE}
          init_args: {{field: tests.stubs.pde.Diffusion, solver: {{method: rk4, step_size: 0.5}}}}
"""
    + DIGITS
    + TRAINER
    + "  callbacks: [{class_path: AnimatedSamples, init_args: {n: 2, n_samples: 1}}]\n"
)
FLOW = (
    """
model:
  class_path: msflow.module.MultiScaleFlowModule
  init_args:
    flow:
      shape: [1, 28, 28]
      pixel_map: {class_path: common.flows.pixel.InkMap}
      pyramid: {class_path: common.flows.pyramid.UnimodularPyramid, init_args: {n_scales: 3}}
      field: {class_path: common.nn.fields.ConcatField, init_args: {width: 4, depth: 2}}
      solver: {method: rk4, step_size: 0.5}
    objective:
      class_path: msflow.objectives.Likelihood
      init_args:
        regularizers: [{class_path: tests.stubs.taylor.TaylorPenalty, init_args: {weight: 0.1}}]
data: {class_path: EmbeddedDigits, init_args: {batch_size: 4}}
"""
    + TRAINER
)


@pytest.fixture
def call(tmp_path):
    def called(main, text, *words):
        config = tmp_path / "stub.yaml"
        config.write_text(text)
        root = ["--trainer.default_root_dir", str(tmp_path)]
        main([words[0], "--config", str(config), *root, *words[1:]])
        return tmp_path / main.__module__.split(".")[0] / "stub" / "version_0"

    return called


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_video_gan_trains_tests_and_shows_what_it_draws(call, capsys):
    run = call(video_ode.main, GAN, "fit")
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    with Image.open(run / "samples.gif") as animation:
        assert animation.n_frames == 5
    call(video_ode.main, GAN, "test", "--ckpt_path", "best")
    found = {row["row"]: row for row in rows(run / "test_table.csv")}
    assert (found["model"]["n_cond"], found["model"]["n_videos"]) == ("0", "4")
    assert float(found["model"]["random_feature_frechet_video"]) > 0
    assert "real videos, frames shuffled" in found
    assert "(n_cond, n_total, n_samples) = (0, 5, 1)" in capsys.readouterr().out
    call(video_ode.main, GAN, "predict", "--ckpt_path", "last", "--n", "2", "--times", "0:4:0.5",
         "--formats", "[gif]")  # fmt: skip
    files = sorted((run / "predictions").iterdir())
    assert [path.name for path in files] == ["generated_00000.gif", "generated_00001.gif"]
    with Image.open(files[0]) as animation:
        assert animation.n_frames == 8
    again = VideoGAN.load_from_checkpoint(run / "checkpoints" / "last.ckpt", trusted=("tests",))
    assert again.generate(3, torch.tensor([0.0, 0.3])).shape == (3, 2, 1, 16, 16)


def test_the_best_checkpoint_of_a_gan_is_that_of_the_smallest_distance(call):
    callback = "{class_path: GenerationMetrics, init_args: {"
    callback += "features: DigitFeatures, n_generated: 6}}"
    measured = GAN.replace("val/gap", "val/digit_frechet_video")
    measured = measured.replace("callbacks: [", f"callbacks: [{callback}, ")
    run = call(video_ode.main, measured, "fit")
    assert (run / "checkpoints" / "best.ckpt").is_file()
    options = {"features": "DigitFeatures", "n_generated": "5", "repeats": "2"}
    words = [word for k, v in options.items() for word in (f"--evaluation.{k}", v)]
    call(video_ode.main, measured, "test", "--ckpt_path", "best", *words)
    model = rows(run / "test_table.csv")[0]
    assert (model["n_videos"], model["n_real"], model["n_batches"]) == ("5", "4", "2")
    assert float(model["digit_frechet_video"]) > 0
    assert 1 <= float(model["digit_inception_score"]) <= 40


def test_a_gan_is_no_predictor(call, capsys):
    call(video_ode.main, GAN, "fit")
    with pytest.raises(SystemExit):
        call(video_ode.main, GAN, "swap", "--ckpt_path", "last")
    assert "VideoGAN predicts no videos from conditioning frames" in capsys.readouterr().err


def test_a_pde_with_states_that_are_maps_trains_and_predicts_between_frames(call):
    run = call(video_ode.main, PDE, "fit")
    call(video_ode.main, PDE, "test", "--ckpt_path", "best")
    assert {row["row"] for row in rows(run / "test_table.csv")} >= {"model", "mean of given"}
    call(video_ode.main, PDE, "predict", "--ckpt_path", "last", "--n", "1", "--n_samples", "1",
         "--times", "0.5:4:0.5", "--formats", "[png]")  # fmt: skip
    assert (run / "predictions" / "video_00000.png").is_file()


def test_a_flow_trains_under_a_taylor_penalty(call):
    run = call(msflow.main, FLOW, "fit", "--trainer.limit_train_batches", "2",
               "--trainer.limit_val_batches", "1")  # fmt: skip
    assert (run / "checkpoints" / "last.ckpt").is_file()


class Oscillator(nn.Module):
    """`f(t, z) = (z₂, -z₁)`, whose paths have `d²z/dt² = -z`."""

    def forward(self, t, z, context=None):
        return torch.stack([z[:, 1], -z[:, 0]], 1)


def test_the_taylor_penalty_of_an_oscillator_is_known(double):
    flow = CNF(Oscillator(), Solver("rk4", step_size=0.01), Exact())
    z = torch.randn(5, 2)
    (penalty,) = flow.transport(
        z, None, 0.0, 1.0, regularizers=[TaylorPenalty(per_dimension=False)]
    ).penalties
    torch.testing.assert_close(penalty, z.square().sum(1))
