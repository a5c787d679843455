"""What a user gets wrong on a command line ends in one short message, and leaves no files."""

import gzip
import os
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import mimic.cli
import msflow.cli
import video_ode.cli
from common.training.cli import run_command
from mimic.studies import (
    closed_forms,
    disentanglement,
    domains,
    estimates,
    minmax,
    placement,
    transfer,
)
from tests import tiny
from video_ode.srvp import convert
from video_ode.study import study

TRAINER = """
trainer:
  accelerator: cpu
  max_epochs: 1
  limit_train_batches: 1
  limit_val_batches: 1
  num_sanity_val_steps: 0
  enable_progress_bar: false
  enable_model_summary: false
  log_every_n_steps: 1
"""
DIGITS = """
data:
  class_path: MovingDigits
  init_args:
    {n_digits: 1, canvas: 16, digit: 8, n_frames: 6, n_train: 8, n_val: 4, n_test: 4,
      batch_size: 4}
"""
CONFIGS = {
    "msflow": tiny.FLOW + "data: {class_path: EmbeddedDigits, init_args: {batch_size: 16}}\n",
    "video_ode": tiny.video("srvp") + DIGITS,
    "separation": tiny.video("separation") + DIGITS,
    "latent_ode": tiny.video("latent_ode") + "data: {class_path: RotatingDigits}\n",
    "mimic": tiny.NETWORK + "data: {class_path: LabelledDigits, init_args: {batch_size: 32}}\n",
}
MAINS = {"msflow": msflow.cli, "video_ode": video_ode.cli, "mimic": mimic.cli}
MAINS["latent_ode"] = MAINS["separation"] = video_ode.cli


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder of the configurations."""
    folder = tmp_path_factory.mktemp("files")
    for name, text in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(text + TRAINER)
    return folder


@pytest.fixture(scope="module")
def checkpoints(files):
    """Checkpoint of each package, made when it is asked for."""
    made = {}

    def of(name):
        if name not in made:
            root = files / f"{name}_runs"
            words = ["--config", str(files / f"{name}.yaml"), "--trainer.default_root_dir"]
            MAINS[name].main(["fit", *words, str(root)])
            (made[name],) = root.rglob("last.ckpt")
        return str(made[name])

    return of


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys, files):
    """Function that runs a command and asserts how it is refused."""
    monkeypatch.chdir(tmp_path)

    def check(call, words):
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        start = time.monotonic()
        with pytest.raises(SystemExit) as end:
            call()
        took = time.monotonic() - start
        message = capsys.readouterr().err
        check_message(end.value.code, message, words)
        assert took < 10
        assert sorted(tmp_path.rglob("*")) == before

    return check


def check_message(code, error, words):
    assert code == 2, error
    assert "Traceback" not in error
    message = error[error.index("error:") :]
    assert len(message.splitlines()) <= 5, message
    for word in words.split():
        assert word in message, message


def command(files, name, subcommand, *options):
    root = ["--trainer.default_root_dir", "runs"]
    return [subcommand, "--config", str(files / f"{name}.yaml"), *root, *options]


def case(name, words, *options, subcommand="fit"):
    shown = " ".join(options)[:60]
    return pytest.param(name, subcommand, options, words, id=f"{name} {subcommand} {shown}")


def with_class(option, path, **values):
    """Words that give an option a class, and values of its arguments."""
    return [option, path] + [w for k, v in values.items() for w in (f"{option}.{k}", str(v))]


CALLBACKS = "--trainer.callbacks+"
GRID = "common.training.callbacks.sample_grid.SampleGrid"
DISTANCE = "common.training.callbacks.sample_distance.SampleDistance"
ANIMATION = "video_ode.evaluation.samples.AnimatedSamples"
PLUGIN = "mimic.plugin.MiMIc"
AUDIT = "mimic.audit.TotalCorrelationAudit"
NETWORKS = "mimic.supervised.networks."
FRAMES = "video_ode.frames."
LIKELIHOOD = "msflow.objectives.Likelihood"
ENERGY = "common.ode.regularize.KineticEnergy"
NOISY = {"drift": tiny.FIELD, "diffusion": tiny.FIELD}
FLOW, FLOWFIELD, PREDICTOR = "--model.flow", "--model.flow.field", "--model.predictor"
CONVOLUTIONS = "common.nn.fields.ConcatField"
DYNAMICS = "video_ode.dynamics."
SDE = f"{DYNAMICS}sde.NeuralSDE"
STEPS = "{{class_path: common.ode.sde.Heun, init_args: {{step_size: {}}}}}"


def audit(**values):
    return with_class(CALLBACKS, AUDIT, layers="conv1", **values)


def plugin(**values):
    return with_class(CALLBACKS, PLUGIN, layers="conv1", **values)


OPTIONS = [
    # Numbers out of range
    case("msflow", "width 0 1", f"{FLOWFIELD}.width", "0"),
    case("msflow", "width -4 1", f"{FLOWFIELD}.width", "-4"),
    case("msflow", "blocks 0 1", f"{FLOWFIELD}.blocks", "0"),
    case("msflow", "waves 0 1", f"{FLOWFIELD}.waves", "0"),
    case("msflow", "width 0 1", *with_class(FLOWFIELD, CONVOLUTIONS, width=0)),
    case("msflow", "depth 1 2", *with_class(FLOWFIELD, CONVOLUTIONS, depth=1)),
    case("msflow", "n_blocks 0 1", f"{FLOW}.n_blocks", "0"),
    case("msflow", "shape 0 1", f"{FLOW}.shape", "[1, 0, 28]"),
    case("msflow", "shape -1 1", f"{FLOW}.shape", "[-1, 28, 28]"),
    case("msflow", "n_scales 0 1", f"{FLOW}.pyramid.n_scales", "0"),
    case("msflow", "sizes 0 1",
         *with_class(f"{FLOW}.pyramid", "common.flows.pyramid.LaplacianPyramid",
                     sizes="[0, 28]")),
    case("msflow", "tail 0", f"{FLOW}.pixel_map.tail", "0"),
    case("msflow", "edge 2", f"{FLOW}.pixel_map.edge", "2"),
    case("msflow", "alpha 0.7",
         *with_class(f"{FLOW}.pixel_map", "common.flows.pixel.Logit", alpha=0.7)),
    case("msflow", "step_size", f"{FLOW}.solver.step_size", "0"),
    case("msflow", "step_size", f"{FLOW}.solver.step_size", "-0.5"),
    case("msflow", "step_size inf", f"{FLOW}.solver.step_size", ".inf"),
    case("msflow", "rtol 0", "--model.eval_solver", "{method: dopri5, rtol: 0.0}"),
    case("msflow", "atol -1", "--model.eval_solver", "{method: dopri5, atol: -1.0}"),
    case("msflow", "max_evaluations 0 1", "--model.eval_solver", "{max_evaluations: 0}"),
    case("msflow", "n_draws 0 1", "--model.n_draws", "0"),
    case("msflow", "statistics_images 0 1", "--model.statistics_images", "0"),
    case("msflow", "epochs_per_scale -1 0", "--model.epochs_per_scale", "[1, -1, 1]"),
    case("msflow", "epochs_per_scale 3", "--model.epochs_per_scale", "[1]"),
    case("msflow", "uniform 1.5", "--model.objective.uniform", "1.5"),
    case("msflow", "time_std -1", "--model.objective.time_std", "-1"),
    case("msflow", "time_mean inf", "--model.objective.time_mean", ".inf"),
    case("msflow", "steer 1", *with_class("--model.objective", LIKELIHOOD, steer=1)),
    case("msflow", "weight -1",
         *with_class("--model.objective", LIKELIHOOD,
                     regularizers=f"[{{class_path: {ENERGY}, init_args: {{weight: -1.0}}}}]")),
    case("msflow", "warmup_steps -1 0", "--model.schedule", "{warmup_steps: -1}"),
    case("msflow", "hold_steps -5 0", "--model.schedule", "{hold_steps: -5}"),
    case("msflow", "final -0.1", "--model.schedule", "{decay: cosine, final: -0.1}"),
    case("msflow", "final 2", "--model.schedule", "{decay: cosine, final: 2.0}"),
    case("msflow", "give_up_after 0 1", "--skip.give_up_after", "0"),
    case("msflow", "give_up_after -3 1", "--skip.give_up_after", "-3"),
    case("msflow", "max_norm 0", "--skip.max_norm", "0"),
    case("msflow", "max_norm -2", "--skip.max_norm", "-2"),
    case("msflow", "n 0 1", *with_class(CALLBACKS, GRID, n=0)),
    case("msflow", "temperature -1", *with_class(CALLBACKS, GRID, temperature=-1)),
    case("msflow", "temperature -1", *with_class(CALLBACKS, DISTANCE, temperature=-1)),
    case("msflow", "batch_size 0 1", "--data.batch_size", "0"),
    case("msflow", "num_workers -1 0", "--data.num_workers", "-1"),
    case("msflow", "size 48", "--data", "EmbeddedPhotos", "--data.size", "48"),
    case("msflow", "crops_per_photo 0 1", "--data", "EmbeddedPhotos",
         "--data.crops_per_photo", "0"),
    case("msflow", "size 0 1", "--data", "ImageFolder", "--data.root", ".", "--data.size", "0"),
    case("msflow", "crops_per_image 0 1", "--data", "ImageFolder", "--data.root", ".",
         "--data.crops_per_image", "0"),
    case("msflow", "val_fraction 1 test_fraction", "--data", "ImageFolder", "--data.root", ".",
         "--data.val_fraction", "1"),
    case("msflow", "val_fraction 1", "--data", "MNIST", "--data.root", ".",
         "--data.val_fraction", "1"),
    # NaN
    case("msflow", "final nan", "--model.schedule", "{decay: cosine, final: .nan}"),
    case("msflow", "max_norm nan", "--skip.max_norm", ".nan"),
    case("msflow", "optimizer.lr nan", "--model.optimizer.lr", ".nan"),
    case("msflow", "optimizer.lr nan", "--model.optimizer.lr", "nan"),
    case("msflow", "step_size nan", f"{FLOW}.solver.step_size", ".nan"),
    case("msflow", "temperature nan", *with_class(CALLBACKS, GRID, temperature=".nan")),
    case("msflow", "gradient_clip_val nan", "--trainer.gradient_clip_val", ".nan"),
    case("video_ode", "beta_y nan", f"{PREDICTOR}.beta_y", ".nan"),
    case("mimic", "weight nan", *plugin(weight=".nan")),
    case("mimic", "label_smoothing nan", "--model.task.label_smoothing", ".nan"),
    # SRVP and its parts
    case("video_ode", "y_size 0 1", f"{PREDICTOR}.y_size", "0"),
    case("video_ode", "z_size -1 0", f"{PREDICTOR}.z_size", "-1"),
    case("video_ode", "n_inference 0 1", f"{PREDICTOR}.n_inference", "0"),
    case("video_ode", "hidden 0 1", f"{PREDICTOR}.hidden", "0"),
    case("video_ode", "width 0 1", f"{PREDICTOR}.prior_width", "0"),
    case("video_ode", "scale 0", f"{PREDICTOR}.scale", "0"),
    case("video_ode", "beta_y -1 0", f"{PREDICTOR}.beta_y", "-1"),
    case("video_ode", "beta_z -1 0", f"{PREDICTOR}.beta_z", "-1"),
    case("video_ode", "residual_weight -1 0", f"{PREDICTOR}.residual_weight", "-1"),
    case("video_ode", "annealing 2 1", f"{PREDICTOR}.annealing", "2"),
    case("video_ode", "growth -0.5", f"{PREDICTOR}.growth", "-0.5"),
    case("video_ode", "shortest -1", f"{PREDICTOR}.shortest", "-1"),
    case("video_ode", "decoded 0 1", f"{PREDICTOR}.decoded", "0"),
    case("video_ode", "width 0 1", f"{PREDICTOR}.encoder.width", "0"),
    case("video_ode", "code_size 0 1", f"{PREDICTOR}.encoder.code_size", "0"),
    case("video_ode", "steps 0 1", f"{PREDICTOR}.dynamics.steps", "0"),
    case("video_ode", "layers 0 1", f"{PREDICTOR}.dynamics.field.layers", "0"),
    case("video_ode", "width 0 1", f"{PREDICTOR}.dynamics.field.width", "0"),
    case("video_ode", "step_size 0",
         *with_class(f"{PREDICTOR}.dynamics", SDE, **NOISY, solver=STEPS.format(0))),
    case("video_ode", "scale -1",
         *with_class(f"{PREDICTOR}.dynamics", SDE, **NOISY, solver=STEPS.format(1),
                     scale=-1)),
    case("video_ode", "adjoint euler", *with_class(f"{PREDICTOR}.dynamics", SDE, **NOISY,
         solver="{class_path: common.ode.torch_sde.TorchSDE, init_args: {step_size: 1, "
                "method: euler, adjoint: true}}")),
    case("video_ode", "order 1 2",
         *with_class(f"{PREDICTOR}.dynamics", f"{DYNAMICS}higher_order.HigherOrderODE",
                     field=tiny.FIELD, solver="{method: rk4, step_size: 1}", order=1)),
    case("video_ode", "noise -1 0",
         *with_class(f"{PREDICTOR}.dynamics", f"{DYNAMICS}recurrent.GRU", noise=-1)),
    case("video_ode", "widths 0 1",
         *with_class(f"{PREDICTOR}.dynamics", f"{DYNAMICS}deconvolution.Deconvolution1d",
                     widths="[4, 0]")),
    case("video_ode", "code_size 0 1",
         *with_class(f"{PREDICTOR}.encoder", f"{FRAMES}vgg.VGGEncoder", code_size=0)),
    case("video_ode", "widths 0 1",
         *with_class(f"{PREDICTOR}.encoder", f"{FRAMES}small.SmallEncoder", widths="[8, 0]")),
    case("video_ode", "pooled -1 0",
         *with_class(f"{PREDICTOR}.encoder", f"{FRAMES}small.SmallEncoder", widths="[4, 4]",
                     pooled=-1)),
    case("video_ode", "sprites 0 1",
         *with_class(f"{PREDICTOR}.decoder", f"{FRAMES}sprites.SpriteDecoder", sprites=0)),
    case("video_ode", "hidden 0 1",
         *with_class(f"{PREDICTOR}.decoder", f"{FRAMES}small.SmallDecoder", hidden=0)),
    case("video_ode", "n_cond -1 0", "--model.n_cond", "-1"),
    case("video_ode", "n_samples 0 1", "--model.n_samples", "0"),
    case("video_ode", "n_val_samples 0 1", "--model.n_val_samples", "0"),
    case("video_ode", "fps 0", *with_class(CALLBACKS, ANIMATION, fps=0)),
    case("video_ode", "n 0 1", *with_class(CALLBACKS, ANIMATION, n=0)),
    # Latent ODE
    case("latent_ode", "latent_size 0 1", f"{PREDICTOR}.latent_size", "0"),
    case("latent_ode", "growth 2", f"{PREDICTOR}.growth", "2"),
    case("latent_ode", "prefix -1", f"{PREDICTOR}.prefix", "-1"),
    case("latent_ode", "consistency -1 0", f"{PREDICTOR}.consistency", "-1"),
    case("latent_ode", "kl_weight -1 0", f"{PREDICTOR}.kl_weight", "-1"),
    case("latent_ode", "scale -1", f"{PREDICTOR}.scale", "-1"),
    case("latent_ode", "hidden 0 1", f"{PREDICTOR}.recurrent.hidden", "0"),
    case("latent_ode", "steps 0 1", f"{PREDICTOR}.recurrent.steps", "0"),
    case("latent_ode", "step_size", f"{PREDICTOR}.dynamics.solver.step_size", "0"),
    case("latent_ode", "speed inf", "--data.speed", ".inf"),
    case("latent_ode", "digits 11", "--data.digits", "[11]"),
    # Videos
    case("video_ode", "n_frames 1", "--data.n_frames", "1"),
    case("video_ode", "n_train 0 1", "--data.n_train", "0"),
    case("video_ode", "n_digits 0 1", "--data.n_digits", "0"),
    case("video_ode", "speed -1", "--data.speed", "-1"),
    case("video_ode", "observed 2", "--data.observed", "2"),
    case("video_ode", "frame_step 0", "--data.frame_step", "0"),
    case("video_ode", "n_balls 0 1", "--data", "BouncingBalls", "--data.n_balls", "0"),
    case("video_ode", "speed -1 0", "--data", "BouncingBalls", "--data.speed", "-1"),
    case("video_ode", "every 0 1", "--data", "VideoFolder", "--data.root", ".",
         "--data.every", "0"),
    case("video_ode", "clips_per_video 0 1", "--data", "VideoFolder", "--data.root", ".",
         "--data.clips_per_video", "0"),
    case("video_ode", "size 0", "--data", "VideoFolder", "--data.root", ".", "--data.size", "0"),
    # Separation, fields and views
    case("separation", "n_given 0 1", f"{PREDICTOR}.n_given", "0"),
    case("separation", "norm -1 0", f"{PREDICTOR}.norm", "-1"),
    case("separation", "blocks 0 1", f"{PREDICTOR}.dynamics.blocks", "0"),
    case("separation", "lengths product", f"{PREDICTOR}.mixing", "product",
         f"{PREDICTOR}.motion.code_size", "5"),
    case("separation", "points CoordinateDecoder", f"{PREDICTOR}.points", "4"),
    case("separation", "horizons", "--evaluation.horizons", "[0]"),
    case("separation", "data_1.nc data.root", "--data", "SeaSurface", "--data.root", "."),
    case("separation", "train_zones once", "--data", "SeaSurface", "--data.root", ".",
         "--data.train_zones", "[3, 3]"),
    case("separation", "BJ13_M32x32_T30_InOut.h5 data.root", "--data", "TaxiBJ", "--data.root",
         "."),
    case("separation", "order released", "--data", "TaxiBJ", "--data.root", ".", "--data.order",
         "sideways"),
    case("separation", "rendered_chairs.tar", "--data", "Chairs", "--data.root", "."),
    case("separation", "n_sequences 1 2", "--data", "WaveEq", "--data.n_sequences", "1"),
    case("separation", "days 0 1", "--data", "SyntheticSea", "--data.days", "0"),
    # Networks, tasks and penalties
    case("mimic", "widths 0 1", "--model.network.widths", "[4, 0]"),
    case("mimic", "hidden 0 1", "--model.network.hidden", "0"),
    case("mimic", "kernel -3 1", "--model.network.kernel", "-3"),
    case("mimic", "kernel 4 odd", "--model.network.kernel", "4"),
    case("mimic", "width 0 1", *with_class("--model.network", f"{NETWORKS}ResNet", width=0)),
    case("mimic", "blocks 0 1", *with_class("--model.network", f"{NETWORKS}ResNet",
                                            blocks="[1, 0]")),
    case("mimic", "n_codes 0 1", *with_class("--model.network", f"{NETWORKS}Coder", n_codes=0)),
    case("mimic", "rates 0 1", *with_class("--model.network", f"{NETWORKS}SmallSegmenter",
                                           rates="[0]")),
    case("mimic", "n_classes 1 2", "--model.task.n_classes", "1"),
    case("mimic", "label_smoothing -1", "--model.task.label_smoothing", "-1"),
    case("mimic", "n_train 0 1", "--data", "RenderedSprites", "--data.n_train", "0"),
    case("mimic", "size 4", "--data", "RenderedScenes", "--data.size", "[4, 64]"),
    case("mimic", "weight -1 0", *plugin(weight=-1)),
    case("mimic", "warmup_steps -1 0", *plugin(warmup_steps=-1)),
    case("mimic", "ramp_steps -1 0", *plugin(ramp_steps=-1)),
    case("mimic", "cap 0", *plugin(cap=0)),
    case("mimic", "noise -1 0", *plugin(noise=-1)),
    case("mimic", "n_critic 0 1", *plugin(n_critic=0)),
    case("mimic", "rows 0 1", *plugin(rows=0)),
    case("mimic", "subset 1 2", *plugin(subset=1)),
    case("mimic", "critic_lr 0", *plugin(critic_lr=0)),
    case("mimic", "critic_betas 2", *plugin(critic_betas="[0.5, 2.0]")),
    case("mimic", "samples 3 40", *audit(samples=3)),
    case("mimic", "positions 0 1", *audit(positions=0)),
    case("mimic", "every_n_epochs 0 1", *audit(every_n_epochs=0)),
    case("mimic", "two MiMIc conv1", *plugin(), *plugin(weight=0.2)),
    # Options, classes and values that don't exist
    case("msflow", "--trainer.max_epochs", "--trainer.max_epoch", "3"),
    case("msflow", "trainer.max_epochs", "--trainer.max_e", "3"),
    case("msflow", "n_drawss n_draws?", "--model.n_drawss", "3"),
    case("msflow", "methd method", f"{FLOW}.solver.methd", "rk4"),
    case("msflow", "rk5 rk4", f"{FLOW}.solver.method", "rk5"),
    case("msflow", "wdth width", f"{FLOWFIELD}.wdth", "8"),
    case("msflow", "unform uniform",
         "--model.objective",
         "{class_path: msflow.objectives.FlowMatching, init_args: {unform: 1}}"),
    case("msflow", "callbacks m seed", CALLBACKS, f"{{class_path: {GRID}, init_args: {{m: 3}}}}"),
    case("msflow", "warm warmup_steps", "--model.schedule.warm", "2"),
    case("msflow", "lrr lr", "--model.optimizer.lrr", "0.1"),
    case("msflow", "cosin cosine linear", "--model.schedule.decay", "cosin"),
    case("msflow", "width x number", f"{FLOWFIELD}.width", "x"),
    case("msflow", "batch_size 1.5 number", "--data.batch_size", "1.5"),
    case("msflow", "max_epochs x null", "--trainer.max_epochs", "x"),
    case("msflow", "shape 3", f"{FLOW}.shape", "[1, 28]"),
    case("msflow", "Foo ResidualField ConcatField", FLOWFIELD, "Foo"),
    case("msflow", "ResidualFild ResidualField", FLOWFIELD, "ResidualFild"),
    case("msflow", "FlowMatchin FlowMatching", "--model.objective", "FlowMatchin"),
    case("msflow", "Foo Likelihood FlowMatching", "--model.objective", "Foo"),
    case("msflow", "Digit EmbeddedDigits", "--data", "Digit"),
    case("msflow", "Adamm Adam", "--model.optimizer", "Adamm"),
    case("msflow", "SampleGrd SampleGrid", CALLBACKS, "SampleGrd"),
    case("msflow", "word", "word"),
    case("msflow", "fou model", "--fou", "1"),
    case("msflow", "callbacks", "--trainer.callbacks", "3"),
    case("msflow", "trainer 3", "--trainer", "3"),
    case("video_ode", "srpv srvp", "--data.generator", "srpv"),
    case("video_ode", "MovingDigit MovingDigits", "--data", "MovingDigit"),
    case("mimic", "penalty lasso", *plugin(penalty="lasso")),
    case("mimic", "Clasification Classification", "--model.task", "Clasification"),
    case("mimic", "SmalCNN SmallCNN", "--model.network", "SmalCNN"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "subcommand", "options", "words"), OPTIONS)
def test_options_of_a_training(name, subcommand, options, words, refused, files):
    refused(lambda: MAINS[name].main(command(files, name, subcommand, *options)), words)


def use(name, subcommand, words, *options):
    return case(name, words, *options, subcommand=subcommand)


RESULTS = [
    use("msflow", "sample", "n 0 1", "--n", "0"),
    use("msflow", "sample", "n -2 1", "--n", "-2"),
    use("msflow", "sample", "batch_size 0 1", "--batch_size", "0"),
    use("msflow", "sample", "temperature -1 0", "--temperature", "-1"),
    use("msflow", "sample", "temperature nan", "--temperature", ".nan"),
    use("msflow", "sample", "out folder", "--out", "folder"),
    use("msflow", "sample", "out folder", "--out", "folder.png"),
    use("msflow", "sample", "x.docx .png", "--out", "x.docx"),
    use("msflow", "sample", "out .png", "--out", "x"),
    use("msflow", "sample", "note file", "--out", "note/x.png"),
    use("msflow", "sample", "temprature --temperature", "--temprature", "1"),
    use("video_ode", "predict", "n 0 1", "--n", "0"),
    use("video_ode", "predict", "n_samples 0 1", "--n_samples", "0"),
    use("video_ode", "predict", "fps 0", "--fps", "0"),
    use("video_ode", "predict", "fps nan", "--fps", ".nan"),
    use("video_ode", "predict", "formats gif", "--formats", "[]"),
    use("video_ode", "predict", "formats webp gif", "--formats", "[webp]"),
    use("video_ode", "predict", "note file", "--out", "note"),
    use("video_ode", "predict", "times 0:1e12:1e-3 10000", "--times", "0:1e12:1e-3"),
    use("video_ode", "predict", "times 0:0:1 START", "--times", "0:0:1"),
    use("video_ode", "predict", "times abc START", "--times", "abc"),
    use("video_ode", "predict", "times nan", "--times", "0:nan:1"),
    use("video_ode", "swap", "n 1 2", "--n", "1"),
    use("video_ode", "swap", "out folder", "--out", "folder"),
    use("video_ode", "interpolate", "steps 1 2", "--steps", "1"),
    use("video_ode", "interpolate", "x.gif .png", "--out", "x.gif"),
    use("mimic", "filters", "zoom 0 1", "--zoom", "0"),
    use("mimic", "filters", "out folder", "--out", "folder"),
    use("mimic", "filters", "x.jpeg .png", "--out", "x.jpeg"),
]


@pytest.mark.parametrize(("name", "subcommand", "options", "words"), RESULTS)
def test_options_of_a_result(
    name, subcommand, options, words, refused, files, checkpoints, tmp_path
):
    path = checkpoints(name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "note").write_text("mine")
    words_ = command(files, name, subcommand, "--ckpt_path", path, *options)
    refused(lambda: MAINS[name].main(words_), words)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")
)
CONTENTS = {
    "bomb": (BOMB.encode(), "100000 aliases"),
    "itself": (b"model: &a [*a]\n", "aliases"),
    "deep": (b"model: " + b"[" * 50_000, "levels"),
    "binary": (bytes(range(128, 256)), "text YAML"),
    "empty": (b"", "empty"),
    "blank": (b"\n  \n", "empty"),
    "list": (b"- model\n- data\n", "list mapping"),
    "word": (b"model\n", "str mapping"),
    "broken": (b"model: {\n", "YAML"),
    "tabs": (b"model:\n\tclass_path: x\n", "YAML"),
    "large": (b"# " + b"x" * 2**21, "bytes"),
    "unknown": (b"modl: 3\n", "modl model"),
    "unknown of the trainer": (b"trainer: {max_epoch: 3}\n", "max_epoch trainer.max_epochs"),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_configurations(content, refused, files, tmp_path):
    text, words = CONTENTS[content]
    (tmp_path / "bad.yaml").write_bytes(text)
    given = command(files, "msflow", "fit", "--config", "bad.yaml")
    refused(lambda: msflow.cli.main(given), words)


@pytest.mark.parametrize(
    ("given", "words"), [("nowhere.yaml", "nowhere.yaml"), (".", "not a file"), ("[1, 2]", "[1,")]
)
def test_configurations_that_are_no_files(given, words, refused, files):
    refused(lambda: msflow.cli.main(command(files, "msflow", "fit", "--config", given)), words)


def mnist_bomb(folder):
    for name in ("train", "t10k"):
        with gzip.open(folder / f"{name}-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
            file.write(struct.pack(">4I", 2051, 60000, 28, 28) + bytes(2**26))
        with gzip.open(folder / f"{name}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2I", 2049, 60000) + bytes(60000))


def png_bomb(folder):
    """Frames whose header promises 60,000 x 60,000 pixels."""
    for video in ("a", "b", "c"):
        (folder / video).mkdir()
        for frame in range(2):
            Image.new("L", (4, 4)).save(path := folder / video / f"{frame}.png")
            data = bytearray(path.read_bytes())
            data[16:24] = struct.pack(">2I", 60000, 60000)
            data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
            path.write_bytes(data)


def npz_bomb(folder):
    for number in range(8):
        with zipfile.ZipFile(folder / f"S1-walk_{number}.npz", "w", zipfile.ZIP_DEFLATED) as made:
            head = {"descr": "|u1", "fortran_order": False, "shape": (10**7, 64, 64, 3)}
            with made.open("image.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, head)
                member.write(bytes(2**20))


BOMBS = [
    ("msflow", "MNIST", mnist_bomb, "67108864 bytes"),
    ("msflow", "ImageFolder", png_bomb, "png pixels"),
    ("video_ode", "VideoFolder", png_bomb, "png pixels"),
    ("video_ode", "Human36M", npz_bomb, "S1-walk_ bytes"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("name", "data", "make", "words"), BOMBS, ids=lambda x: str(x)[:20])
def test_files_that_unpack_to_too_much(name, data, make, words, refused, files, tmp_path_factory):
    make(folder := tmp_path_factory.mktemp("bomb"))
    options = ["--data", data, "--data.root", str(folder)]
    if name == "video_ode":
        options += ["--model.predictor.shape", "[3, 64, 64]", "--data.clips_per_video", "1"]
    refused(lambda: MAINS[name].main(command(files, name, "fit", *options)), words)


COMMANDS = [
    ([convert.convert], ["nowhere.pt", "out.ckpt"], "nowhere.pt"),
    ([convert.convert], ["note", "folder"], "out folder"),
    ([convert.convert], ["note", "out.txt"], "out.txt .ckpt"),
    ([convert.convert], ["note", "note/out.ckpt"], "note file"),
    ([convert.convert], ["note"], "target"),
    ([study], ["--seeds", "0"], "seeds 0 1"),
    ([study], ["--seeds", "x"], "seeds x number"),
    ([study], ["--out", "note"], "out note"),
    ([study], ["--seed", "3"], "seed seeds"),
    ([closed_forms.gaussian, closed_forms.ica], ["gaussian", "--steps", "0"], "steps 0 1"),
    ([closed_forms.gaussian, closed_forms.ica], ["gaussian", "--out", "note"], "out note"),
    ([closed_forms.gaussian, closed_forms.ica], ["ica", "--mixing", "x"], "mixing hadamard"),
    ([closed_forms.gaussian, closed_forms.ica], ["icb"], "icb ica"),
    ([closed_forms.blindness], ["--draws", "1"], "draws 1 2"),
    ([disentanglement.disentanglement], ["--epochs", "0"], "epochs 0 1"),
    ([disentanglement.disentanglement], ["--more_codes", "-1"], "more_codes -1"),
    ([domains.domains], ["--width", "0"], "width 0 1"),
    ([domains.domains], ["--seeds", "0"], "seeds 0 1"),
    ([estimates.table], ["--lr", "0"], "lr 0"),
    ([estimates.table], ["--lr", ".nan"], "lr nan"),
    ([estimates.published], ["--batch_size", "0"], "batch_size 0"),
    ([estimates.samples], ["--sizes", "[0]"], "sizes 0 40"),
    ([minmax.minmax], ["--audit_steps", "0"], "audit_steps 0 1"),
    ([placement.placement], ["--n_train", "-1"], "n_train -1 1"),
    ([transfer.transfer], ["--out", "note/x"], "note file"),
]


@pytest.mark.parametrize(("functions", "args", "words"), COMMANDS, ids=lambda x: str(x)[-40:])
def test_commands_of_functions(functions, args, words, refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "note").write_text("mine")
    refused(lambda: run_command(functions, args), words)


@pytest.mark.parametrize(
    ("module", "args", "words"),
    [
        ("msflow.cli", ["fit", "--trainer.max_epoch", "3"], "--trainer.max_epochs"),
        ("video_ode.study", ["--seeds", "0"], "seeds 0"),
        ("mimic.studies.closed_forms", ["ica", "--seeds", "0"], "seeds 0"),
    ],
)
def test_processes(module, args, words, files, tmp_path):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if args[0] == "fit":
        args = command(files, "msflow", *args)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *args],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
    )
    check_message(done.returncode, done.stderr, words)
    assert not list(tmp_path.iterdir())


def broken_checkpoint(folder):
    path = folder / "broken.ckpt"
    path.write_bytes(b"not a checkpoint")
    return str(path)


def other_checkpoint(folder):
    path = folder / "other.ckpt"
    torch.save({"weights": torch.zeros(2)}, path)
    return str(path)


def a_file(folder):
    path = folder / "taken"
    Image.new("L", (4, 4)).save(path, "PNG")
    return str(path)


SANITY = ("--trainer.num_sanity_val_steps", "1")
RUNS = [
    case("msflow", "accelerator gpux cpu", "--trainer.accelerator", "gpux"),
    case("msflow", "accelerator CUDA", "--trainer.accelerator", "cuda"),
    case("msflow", "devices 0", "--trainer.devices", "0"),
    case("msflow", "devices int", "--trainer.devices", "x"),
    case("msflow", "taken file", "--trainer.default_root_dir", "TAKEN"),
    case("msflow", "default_root_dir", "--trainer.default_root_dir", ""),
    case("msflow", "long", "--trainer.default_root_dir", "x" * 5000),
    case("msflow", "val/bdp val/bpd", "--best.monitor", "val/bdp", *SANITY),
    case("msflow", "every_n_train_steps 0 1", "--last.every_n_train_steps", "0"),
    case("msflow", "every_n_train_steps -5 1", "--last.every_n_train_steps", "-5"),
    case("msflow", "nowhere.ckpt", "--ckpt_path", "nowhere.ckpt"),
    case("msflow", "broken.ckpt", "--ckpt_path", "BROKEN"),
    case("msflow", "other.ckpt", "--ckpt_path", "OTHER"),
    case("msflow", "broken.ckpt", "--ckpt_path", "BROKEN", subcommand="test"),
    case("msflow", "max_epochs -5", "--trainer.max_epochs", "-5"),
    case("msflow", "limit_train_batches -1", "--trainer.limit_train_batches", "-1"),
    case("msflow", "precision 17", "--trainer.precision", "17"),
    case("msflow", "learning rate -1", "--model.optimizer.lr", "-1"),
    case("mimic", "val/los val/loss", "--best.monitor", "val/los", *SANITY),
    case("video_ode", "val/psn val/psnr", "--best.monitor", "val/psn", *SANITY),
]


@pytest.mark.parametrize(("name", "subcommand", "options", "words"), RUNS)
def test_devices_folders_and_checkpoints(
    name, subcommand, options, words, refused, files, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("given")
    made = {"BROKEN": broken_checkpoint, "OTHER": other_checkpoint, "TAKEN": a_file}
    options = [made[option](folder) if option in made else option for option in options]
    refused(lambda: MAINS[name].main(command(files, name, subcommand, *options)), words)


def test_an_unknown_subcommand_is_answered_with_the_known_ones(refused):
    refused(lambda: msflow.cli.main(["--config", "x.yaml"]), "x.yaml")
    refused(lambda: msflow.cli.main([]), "fit validate test predict sample")


def test_names_are_unique():
    ids = [p.id for p in [*OPTIONS, *RESULTS, *RUNS]]
    assert len(ids) >= 150
    assert all(re.match(r"\w+ \w+ ", name) for name in ids)
