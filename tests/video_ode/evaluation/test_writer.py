"""Predictions as files: the callback of training, and the command line that calls all of it."""

import csv
import io

import av
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.data.videos.base import Clip
from common.errors import InputError
from tests.video_ode.fakes import FRAMES, DiscData, Discs, Guess
from video_ode.cli import main
from video_ode.evaluation.files.writer import PredictionWriter, best_first
from video_ode.evaluation.predictions import time_range
from video_ode.evaluation.rows import HEIGHT
from video_ode.evaluation.samples import AnimatedSamples, evaluation_mode
from video_ode.module import VideoPredictionModule
from video_ode.predictor import to_unit

CONFIG = """
model:
  class_path: video_ode.module.VideoPredictionModule
  init_args:
    predictor: {class_path: tests.video_ode.fakes.Guess}
    n_cond: 3
    optimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.01}}
    n_samples: 3
data: {class_path: tests.video_ode.fakes.DiscData, init_args: {count: 12}}
trainer:
  accelerator: cpu
  max_epochs: 2
  num_sanity_val_steps: 0
  enable_progress_bar: false
  log_every_n_steps: 1
  callbacks:
    - {class_path: AnimatedSamples, init_args: {n: 2, n_samples: 2}}
    - {class_path: pytorch_lightning.callbacks.EMAWeightAveraging, init_args: {decay: 0.5}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = tmp_path_factory.mktemp("cli") / "tiny.yaml"
    config.write_text(CONFIG)
    call(config, "fit")
    return config


def call(config, subcommand, *options):
    root = str(config.parent / "runs")
    main([subcommand, "--config", str(config), "--trainer.default_root_dir", root, *options])


def run(config):
    return config.parent / "runs" / "video_ode" / "tiny" / "version_0"


def length(path):
    image = Image.open(path)
    durations = []
    for i in range(image.n_frames):
        image.seek(i)
        durations.append(image.info["duration"])
    return image.n_frames, sum(durations)


def test_training_leaves_animated_samples_in_tensorboard_and_in_the_run(trained):
    events = EventAccumulator(str(run(trained)))
    events.Reload()
    logged = events.Images("samples")
    assert len(logged) == 2  # one a validation
    image = Image.open(io.BytesIO(logged[-1].encoded_image_string))
    assert (image.format, image.n_frames, image.info["loop"]) == ("GIF", FRAMES, 0)
    assert image.size == (logged[-1].width, logged[-1].height)
    assert length(run(trained) / "samples.gif") == (FRAMES, 1000)
    assert Image.open(run(trained) / "samples.png").size[0] > 500
    names = {path.name for path in (run(trained) / "checkpoints").glob("*.ckpt")}
    assert names == {"best.ckpt", "last.ckpt"}
    assert {"val/psnr", "val/psnr_given"} <= set(events.Tags()["scalars"])


def test_same_noise_each_time_and_the_model_stays_as_it_was(tmp_path):
    module = VideoPredictionModule(Guess(), 3)
    data = DiscData()
    data.setup("validate")
    callback = AnimatedSamples(n=1, n_samples=2)
    callback._clip = next(iter(data.val_dataloader())).select([0])
    state = torch.get_rng_state()
    one, other = (callback._scenes(module)[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.samples[1].frames, other.samples[1].frames)
    assert not torch.equal(one.samples[0].frames, one.samples[1].frames)


def test_evaluation_mode_restores_each_parts_mode():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[1].eval()
    with evaluation_mode(model):
        assert not any(part.training for part in model.modules())
        assert not torch.is_grad_enabled()
    assert [part.training for part in model.modules()] == [True, True, False]
    assert torch.is_grad_enabled()


def test_test_prints_and_writes_into_the_run(trained, capsys):
    call(trained, "test", "--ckpt_path", "best", "--evaluation.features", "RandomVideoFeatures",
         "--evaluation.features.seed", "3")  # fmt: skip
    out = capsys.readouterr().out
    assert "DiscData (sliding): (n_cond, n_total, n_samples) = (3, 8, 3), 12 videos" in out
    table = (run(trained) / "test_table.csv").resolve()
    assert str(table) in out
    with table.open() as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert float(rows["model"]["psnr"]) > float(rows["average of samples"]["psnr"])
    assert (run(trained) / "test_curves.png").is_file()


def test_lpips_weights_are_an_option(trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call(
            *(trained, "test", "--ckpt_path", "best"),
            *("--evaluation.metrics+", "common.metrics.frames.LPIPS"),
            *("--evaluation.metrics.weights", str(tmp_path / "a.pth")),
        )
    assert "LPIPS needs AlexNet" in capsys.readouterr().err


def test_predict_writes_the_clips_own_times_into_the_run(trained, capsys):
    call(trained, "predict", "--ckpt_path", "best", "--n", "2")
    folder = (run(trained) / "predictions").resolve()
    expected = [folder / f"video_{i:05d}.{form}" for i in (0, 1) for form in ("gif", "mp4", "png")]
    assert sorted(folder.iterdir()) == sorted(expected)
    out = capsys.readouterr().out
    assert all(f"prediction: {path}" in out for path in expected)
    assert length(expected[0])[1] == FRAMES / 8 * 1000


@pytest.mark.parametrize(
    ("times", "count"), [("0:7:0.25", 28), ("-2:5:0.5", 14), ("7:-1:-1", 8), ("0:20:2", 10)]
)
def test_predict_at_other_times_and_speeds(trained, tmp_path, times, count):
    call(trained, "predict", "--ckpt_path", "best", "--times", times, "--fps", "16",
         "--n", "1", "--n_samples", "2", "--formats", "[mp4,gif]",
         "--out", str(tmp_path))  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"video_00000.mp4", "video_00000.gif"}
    with av.open(str(tmp_path / "video_00000.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 16
        assert sum(1 for _ in container.decode(stream)) == count
    assert length(tmp_path / "video_00000.gif")[1] == pytest.approx(count / 16 * 1000, abs=10)


def test_backwards_is_the_reverse_of_forwards(trained, tmp_path):
    for name, times in (("on", "0:8:1"), ("back", "7:-1:-1")):
        call(trained, "predict", "--ckpt_path", "best", "--times", times, "--n", "1",
             "--formats", "[png]", "--out", str(tmp_path / name))  # fmt: skip
    pictures = [
        np.array(Image.open(tmp_path / name / "video_00000.png"))[4 : -4 - HEIGHT, :-4]
        for name in ("on", "back")
    ]
    side = (len(pictures[0]) - HEIGHT) // 5  # of a frame: the truth and four samples
    panels = [np.stack(np.split(x[:, -FRAMES * side :], FRAMES, axis=1)) for x in pictures]
    np.testing.assert_array_equal(panels[0], panels[1][::-1])


@pytest.mark.parametrize(
    "options", [["--n", "0"], ["--fps", "0"], ["--times", "5:0:1"], ["--times", "now"]]
)
def test_what_predict_cannot_do_is_said(trained, options, capsys):
    with pytest.raises(SystemExit):
        call(trained, "predict", "--ckpt_path", "best", *options)
    assert "error: got " in capsys.readouterr().err


def test_time_ranges_are_those_of_numpy():
    for text in ("0:20:0.25", "-5:15:0.5", "20:0:-0.5", "0:1:0.1", "0:0.3:0.1"):
        start, stop, step = map(float, text.split(":"))
        count = round((stop - start) / step)
        torch.testing.assert_close(time_range(text), torch.arange(count) * step + start)
    assert time_range("2:5").tolist() == [2, 3, 4]
    for text in ("0:1:0", "0:0:1", "1:2:3:4", "x:2", "", "0:inf:1"):
        with pytest.raises(InputError, match="give START:STOP:STEP"):
            time_range(text)


def clip_and_samples(n_samples, times):
    videos = Discs(3)
    clip = Clip(
        videos.frames([0, 1, 2]),
        videos.times([0, 1, 2]),
        torch.ones(3, FRAMES).bool(),
        torch.arange(3),
    )
    places = times.round().long().clamp(0, FRAMES - 1)
    noise = 0.2 * torch.rand(n_samples, 3, 1, 1, 1, 1)
    video = to_unit(clip.frames[:, places])
    return clip, (video + noise * torch.randn(n_samples, *video.shape)).clamp(0, 1)


def test_best_sample_is_that_of_scikit_image_and_comes_first():
    times = torch.tensor([1.5, 0.0, 4, 5, 6.25])
    clip, samples = clip_and_samples(5, times)
    order = best_first(clip, 3, times, samples)
    for b in range(3):
        psnrs = [
            np.mean([
                peak_signal_noise_ratio(
                    to_unit(clip.frames)[b, t].numpy(), samples[s, b, k].numpy(), data_range=1
                )
                for k, t in ((2, 4), (3, 5))
            ])
            for s in range(5)
        ]  # fmt: skip
        best = int(np.argmax(psnrs))
        assert order[b].tolist() == [best, *(s for s in range(5) if s != best)]


def test_without_truth_no_sample_is_best():
    times = torch.tensor([1.5, 8.5])
    clip, samples = clip_and_samples(3, times)
    assert best_first(clip, 3, times, samples).tolist() == [[0, 1, 2]] * 3


def test_writer_shows_few_of_many_samples(tmp_path):
    times = torch.arange(float(FRAMES))
    clip, samples = clip_and_samples(9, times)
    paths = PredictionWriter(tmp_path, ["png"], n_shown=3).write(clip, 3, times, samples)
    assert [path.name for path in paths] == [f"video_{i:05d}.png" for i in range(3)]
    width, height = Image.open(paths[0]).size
    assert height / width == pytest.approx(4 / FRAMES, abs=0.03)


def test_bad_callback_arguments_are_refused():
    with pytest.raises(InputError, match="got n 0"):
        AnimatedSamples(n=0)


def test_the_best_sample_is_found_at_times_of_each_video():
    clip, samples = clip_and_samples(4, torch.arange(float(FRAMES)))
    own = clip._replace(times=clip.own_times() * torch.tensor([1.0, 2.0, 0.5])[:, None])
    times = own.times
    assert (
        best_first(own, 3, times, samples).tolist()
        == best_first(clip, 3, clip.times, samples).tolist()
    )
