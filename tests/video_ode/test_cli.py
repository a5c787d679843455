"""The real command line, in process, on small models and few moving digits."""

import pytest
import torch

from tests.harness import breaking
from tests.tiny import PREDICTORS, video
from video_ode.cli import main
from video_ode.module import VideoPredictionModule

REST = """
    n_samples: 2
data:
  class_path: MovingDigits
  init_args:
    {n_digits: 1, canvas: 16, digit: 8, n_frames: 6, n_train: 24, n_val: 4, n_test: 4,
      batch_size: 4}
trainer:
  accelerator: cpu
  max_epochs: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  log_every_n_steps: 1
"""


@pytest.fixture(params=PREDICTORS)
def config(request, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(video(request.param) + REST)
    return path


def call(config, subcommand, *options):
    root = config.parent / "runs"
    given = ["--config", str(config), "--trainer.default_root_dir", str(root)]
    main([subcommand, *given, *options])


def checkpoint(config, name="last", k=0):
    return (
        config.parent
        / "runs"
        / "video_ode"
        / "tiny"
        / f"version_{k}"
        / "checkpoints"
        / f"{name}.ckpt"
    )


def test_a_trained_model_is_evaluated_shown_and_loaded_again(config, capsys):
    call(config, "fit")
    call(config, "test", "--ckpt_path", "best")
    out = capsys.readouterr().out
    assert "MovingDigits (srvp): (n_cond, n_total, n_samples) = (3, 6, 2), 4 videos" in out
    assert "constant velocity" in out
    for _ in range(2):
        call(config, "predict", "--ckpt_path", "best", "--n", "1", "--formats", "[png]")
    folder = checkpoint(config).parents[1] / "predictions"
    assert {x.name for x in folder.iterdir()} == {"video_00000.png", "video_00000-2.png"}
    module = VideoPredictionModule.load_from_checkpoint(checkpoint(config, "best")).eval()
    state = torch.load(checkpoint(config, "best"), weights_only=True)["state_dict"]
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    times = torch.arange(6.0)
    assert module.predictor.predict(torch.rand(2, 3, 1, 16, 16), times[:3], times).shape[2] == 6


@pytest.mark.parametrize(
    "options", [["--last.every_n_train_steps", "4"], ["--data.num_workers", "1"]]
)
def test_a_run_that_broke_off_continues_as_if_it_had_not(config, options, monkeypatch):
    call(config, "fit", *options)
    monkeypatch.setattr(
        VideoPredictionModule, "training_step", breaking(VideoPredictionModule.training_step)
    )
    with pytest.raises(RuntimeError, match="pulled the plug"):
        call(config, "fit", *options)
    monkeypatch.undo()
    assert torch.load(checkpoint(config, k=1), weights_only=True)["global_step"] in (6, 8)
    call(config, "fit", *options, "--ckpt_path", "last")
    whole, resumed = (
        torch.load(checkpoint(config, k=k), weights_only=True)["state_dict"] for k in (0, 1)
    )
    for name in whole:
        assert torch.equal(whole[name], resumed[name]), name


@pytest.mark.parametrize("config", ["srvp", "separation"], indirect=True)
def test_content_and_motions_are_shown(config, capsys):
    call(config, "fit")
    call(config, "test", "--ckpt_path", "best", "--evaluation.swap", "true")
    assert "model, content swap" in capsys.readouterr().out
    call(config, "swap", "--ckpt_path", "best", "--n", "2")
    call(config, "interpolate", "--ckpt_path", "best", "--out", str(config.parent / "way.png"))
    out = capsys.readouterr().out
    for path in (checkpoint(config).parents[1] / "swap.png", config.parent / "way.png"):
        assert str(path) in out
        assert path.is_file()


@pytest.mark.parametrize("config", ["srvp"], indirect=True)
def test_what_only_shows_a_model_checks_the_data_too(config, capsys):
    call(config, "fit", "--trainer.max_epochs", "1")
    clips = ["--data", "EmbeddedClips", "--data.size", "16", "--data.n_frames", "6"]
    for subcommand in ("predict", "swap", "interpolate"):
        for options, message in (
            (["--data.canvas", "20"], "the data's frames are 1 × 20 × 20 but the predictor"),
            (clips, "the data's frames are 3 × 16 × 16 but the predictor"),
            (["--data.n_eval_frames", "2"], "got videos of 2 frames and n_cond 3"),
        ):
            with pytest.raises(SystemExit) as stop:
                call(config, subcommand, "--ckpt_path", "last", *options)
            assert stop.value.code == 2
            assert message in capsys.readouterr().err


@pytest.mark.parametrize("config", ["latent_ode"], indirect=True)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.n_cond", "6"], "no frame is left to predict"),
        (["--model.n_cond", "9"], "got training videos of 6 frames, n_cond is 9"),
        (["--data", "RotatingDigits"], "1 × 28 × 28 but the predictor was configured for 1 × 16"),
        (["--data", "EmbeddedClips", "--data.size", "16"], "the data's frames are 3 × 16 × 16"),
        (["--data", "VideoFolder", "--data.root", "nowhere"], "nowhere"),
        (["--model.predictor.growth", "3.0"], "growth 3"),
        (["--data.n_frames", "1"], "a video needs 2"),
        (["--data.n_frames", "2", "--data.n_eval_frames", "6"], "training videos of 2 frames"),
        (["--data.observed", "0.0"], "observed 0"),
    ],
)
def test_mistakes_end_with_one_message(config, options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        call(config, "fit", *options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("config", ["latent_ode", "svg"], indirect=True)
def test_only_models_with_content_swap(config, capsys):
    call(config, "fit", "--trainer.max_epochs", "1")
    with pytest.raises(SystemExit):
        call(config, "swap", "--ckpt_path", "last")
    assert "which doesn't separate content and motion" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["srvp", "svg", "separation"], indirect=True)
def test_missing_frames_need_a_latent_ode(config, capsys):
    with pytest.raises(SystemExit):
        call(config, "fit", "--data.observed", "0.5")
    assert "use a latent ODE" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["latent_ode"], indirect=True)
@pytest.mark.parametrize("pattern", ["random", "regular"])
def test_irregular_times_are_learned_from(config, pattern, capsys):
    call(config, "fit", "--data.observed", "0.5", "--data.pattern", pattern)
    call(config, "test", "--ckpt_path", "best", "--data.observed", "0.5")
    assert "% of the conditioning frames observed" in capsys.readouterr().out
