"""A video GAN on the real command line: averaged weights, mixed precision, and exact resume."""

import pytest
import torch
from PIL import Image

from tests.harness import breaking
from video_ode.cli import main
from video_ode.gan.module import VideoGANModule

CONFIG = """
model:
  class_path: video_ode.gan.module.VideoGANModule
  init_args:
    generator:
      class_path: video_ode.gan.generator.LatentVideoGenerator
      init_args:
        shape: [1, 16, 16]
        motion_size: 4
        content_size: 3
        dynamics:
          class_path: video_ode.dynamics.sde.NeuralSDE
          init_args:
            drift: {class_path: common.nn.mlp.MLPField, init_args: {width: 6}}
            diffusion: {class_path: common.nn.mlp.MLPField, init_args: {width: 6}}
            solver: {class_path: common.ode.sde.EulerMaruyama, init_args: {step_size: 0.5}}
        decoder: {class_path: video_ode.frames.dcgan.DCGANDecoder, init_args: {width: 4}}
    critics:
      - class_path: video_ode.gan.tgan.TGANCritic
        init_args: {shape: [1, 16, 16], clip: 4, width: 4}
    r1: {class_path: video_ode.adversarial.R1, init_args: {weight: 0.1, every: 2}}
    clipping: {class_path: video_ode.gan.clipping.SingularValueClipping, init_args: {every: 3}}
    critic_steps: 2
    accumulate: 2
data:
  class_path: MovingDigits
  init_args:
    {n_digits: 1, canvas: 16, digit: 8, n_frames: 4, n_train: 32, n_val: 4, n_test: 4,
      batch_size: 4}
trainer:
  accelerator: cpu
  max_epochs: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  log_every_n_steps: 1
  callbacks:
    - class_path: video_ode.evaluation.validation.GenerationMetrics
    - {class_path: pytorch_lightning.callbacks.EMAWeightAveraging, init_args: {decay: 0.5}}
best: {monitor: val/random_feature_frechet_video, mode: min}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "gan.yaml"
    path.write_text(CONFIG)
    return path


def call(config, subcommand, *options):
    main([subcommand, "--config", str(config), "--trainer.default_root_dir",
          str(config.parent / "runs"), *options])  # fmt: skip


def run(config, k=0):
    return config.parent / "runs" / "video_ode" / "gan" / f"version_{k}"


def weights(config, name="last", k=0):
    file = run(config, k) / "checkpoints" / f"{name}.ckpt"
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_run_that_broke_off_continues_as_if_it_had_not(config, monkeypatch):
    options = ["--last.every_n_train_steps", "4"]
    call(config, "fit", *options)
    monkeypatch.setattr(VideoGANModule, "training_step", breaking(VideoGANModule.training_step))
    with pytest.raises(RuntimeError, match="pulled the plug"):
        call(config, "fit", *options)
    monkeypatch.undo()
    call(config, "fit", *options, "--ckpt_path", "last")
    whole, resumed = weights(config), weights(config, k=1)
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


def test_half_precision_trains_and_the_generator_is_shown_at_any_times(config):
    call(config, "fit", "--trainer.precision", "bf16-mixed")
    assert all(bool(x.isfinite().all()) for x in weights(config, "best").values())
    call(config, "predict", "--ckpt_path", "best", "--n", "1", "--n_samples", "3", "--times",
         "0:3:0.5", "--formats", "[gif,png]")  # fmt: skip
    folder = run(config) / "predictions"
    with Image.open(folder / "generated_00000.gif") as animation:
        width, frames = animation.width, animation.n_frames
    assert frames == 6
    call(config, "predict", "--ckpt_path", "best", "--n", "1", "--n_samples", "1", "--formats",
         "[gif]")  # fmt: skip
    with Image.open(folder / "generated_00000-2.gif") as animation:
        assert animation.width * 2 < width  # three motions of the SDE are side by side
