"""Videos of the user, predicted: which frames are given, what is written, what is refused."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.footage import FrameFormat
from common.data.formats.video_files import open_video
from common.data.formats.video_paths import videos_under
from common.errors import InputError
from common.files import free_path
from tests.common.data.videos.test_folder import steps, write
from tests.common.data.videos.test_video_files import write as stamped
from tests.stubs.video_gan import LatentGenerator, VideoGAN
from tests.video_ode import models
from tests.video_ode.fakes import Guess
from video_ode.cli import main
from video_ode.dynamics.residual import ResidualEuler
from video_ode.evaluation.files.writer import PredictionWriter
from video_ode.evaluation.own_clips import OwnClips, Window, read_clip
from video_ode.evaluation.samples import evaluation_mode
from video_ode.evaluation.systems import GivenFrames
from video_ode.module import VideoPredictionModule
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.module import OpticalFlowModule
from video_ode.optical_flow.network import MotionPyramid
from video_ode.optical_flow.predictor import WarpingPredictor
from video_ode.predictor import to_unit

THREE = GivenFrames(3, 1, (16, 16))
PREDICTORS = {
    "latent_ode": models.latent_ode,
    "srvp": models.srvp,
    "separation": models.separation,
    "svg": models.svg,
}


def clip(path, count=60):
    """Video of 25 frames a second whose frame k shows 4 k everywhere."""
    return write(path, [4 * x for x in steps(count)])


def numbers(frames):
    return (frames.float().flatten(1).mean(1) / 4).round().int().tolist()


def predicted(system, tmp_path, path, *window, times=None, n_samples=2, formats=("npz",)):
    own = OwnClips(system, path, Window(*window), times)
    with evaluation_mode(system):
        torch.manual_seed(3)
        return own.write(PredictionWriter(tmp_path / "out", formats), n_samples)


def pyramid(channels=3, **options):
    return MotionPyramid(channels=channels, width=4, radius=1, **options)


# Which frames are given ---------------------------------------------------------------------


@pytest.mark.parametrize(("start", "step"), [(0.0, 1), (0.04, 2), (0.5, 1), (1.0, 5), (1.159, 2)])
def test_the_frames_shown_from_the_start_on_are_given_and_the_later_ones_true(
    start, step, tmp_path
):
    found = read_clip(clip(tmp_path / "a.mkv"), THREE, Window(start, step), 4.0)
    first = int(start * 25 + 1e-6)  # of 25 frames a second, the one that is shown
    given = [first + k * step for k in range(3)]
    later = range(given[-1] + 1, first + 4 * step + 1)
    assert numbers(found.frames[0]) == [*given, *later]
    times = [(k - first) / step for k in [*given, *later]]
    torch.testing.assert_close(found.times, torch.tensor(times))


def test_the_truth_ends_with_the_video(tmp_path):
    found = read_clip(clip(tmp_path / "a.mkv", 7), THREE, Window(0.08), 100.0)
    assert numbers(found.frames[0]) == [2, 3, 4, 5, 6]


def test_frames_of_uneven_time_stamps_keep_their_times(tmp_path):
    path = stamped(tmp_path / "a.mkv", steps(6), [0, 40, 80, 200, 240, 280])
    found = read_clip(path, THREE, Window(0.04), 9.0)
    torch.testing.assert_close(found.times, torch.tensor([0.0, 1, 4, 5, 6]))
    even = read_clip(path, THREE, Window(0.04, 1, "frames"), 9.0)
    torch.testing.assert_close(even.times, torch.arange(5.0))


def test_a_folder_of_frames_is_a_video_of_25_frames_a_second(tmp_path):
    for k, frame in enumerate(steps(9)):
        Image.fromarray(4 * frame).save(tmp_path / f"{k}.png")
    assert list(OwnClips(VideoPredictionModule(models.svg(), 3), tmp_path, Window()).videos)
    found = read_clip(tmp_path, THREE, Window(0.12), 3.0)
    assert numbers(found.frames[0]) == [3, 4, 5, 6]


# What is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_predicts_from_the_given_frames_alone(name, tmp_path):
    system = VideoPredictionModule(PREDICTORS[name](), 3)
    times = "0:6:1" if name == "svg" else "0:6:0.5"
    (path,) = predicted(system, tmp_path, clip(tmp_path / "a.mkv"), 0.4, times=times)
    assert path.name == f"a_start0.4_0to6by{times[4:]}.npz"
    found = np.load(path)
    assert numbers(torch.from_numpy(found["given"])) == [10, 11, 12]
    assert numbers(torch.from_numpy(found["truth"])) == [13, 14, 15]
    torch.manual_seed(3)
    with evaluation_mode(system):
        samples = system.predictor.predict(
            found["given"][None], found["given_times"], found["times"], 2
        )
    order = [0, 1] if np.array_equal(samples[0, 0], found["samples"][0]) else [1, 0]
    np.testing.assert_array_equal(samples[order, 0], found["samples"])


def test_optical_flow_gives_the_frames_between_two(tmp_path):
    system = OpticalFlowModule(FlowEstimator(pyramid()))
    path = write(tmp_path / "a.mkv", [4 * x for x in steps(30, (16, 24))])
    files = predicted(system, tmp_path, path, 0.4, 4, formats=("npz", "frames"))
    found = np.load(files[0])
    assert files[0].name == "a_start0.4_step4_0to1.25by0.25.npz"
    assert numbers(torch.from_numpy(found["given"])) == [10, 14]
    assert numbers(torch.from_numpy(found["truth"])) == [11, 12, 13]
    first, last = to_unit(torch.from_numpy(found["given"]))[:, None]
    between = system.estimator.between(first, last, torch.from_numpy(found["times"]))
    assert abs(between[0].detach() * 255 - found["samples"][0]).max() <= 0.5


def test_a_model_of_any_size_takes_the_video_at_its_own(tmp_path):
    system = VideoPredictionModule(WarpingPredictor(pyramid(others=[-1.0], times=[0.0])), 2)
    path = write(tmp_path / "a.mkv", steps(6, (20, 36)))
    found = np.load(predicted(system, tmp_path, path)[0])
    assert found["samples"].shape == (2, 4, 3, 20, 36)
    large = write(tmp_path / "b.mkv", steps(4, (20, 600)))
    assert read_clip(large, system.given_frames(), Window(), 0.0).frames.shape[-2:] == (17, 512)


def test_frames_and_lossless_video_are_the_best_sample_to_the_bit(tmp_path):
    system = VideoPredictionModule(Guess(), 3)
    files = predicted(system, tmp_path, clip(tmp_path / "a.mkv"), times="0:4:0.5",
                      formats=("npz", "frames", "mkv", "gif", "mp4", "png"))  # fmt: skip
    best = (np.load(files[0])["samples"][0] * 255).round().astype(np.uint8)
    pictures = [np.array(Image.open(files[1] / f"{k:05d}.png")) for k in range(8)]
    np.testing.assert_array_equal(np.stack(pictures).transpose(0, 3, 1, 2), best)
    for file in (files[2], *videos_under(files[1]).values()):
        video = open_video(file, FrameFormat(16, 16))
        np.testing.assert_array_equal(video.read(range(8)), best)
    assert all(path.exists() for path in files)


def test_nothing_is_replaced_and_equal_names_stay_apart(tmp_path):
    system = VideoPredictionModule(models.svg(), 3)
    for name in ("a/clip.mkv", "b/clip.mkv", "b/clip.avi"):
        clip(tmp_path / "in" / name, 8)
    first = predicted(system, tmp_path, tmp_path / "in", times="0:4")
    assert len({*first}) == 3
    kept = [path.read_bytes() for path in first]
    again = predicted(system, tmp_path, tmp_path / "in", times="0:4", formats=("npz", "png"))
    assert not {*first} & {*again}
    assert len({*again}) == 6
    assert [path.read_bytes() for path in first] == kept
    assert {str(p.parent.name) for p in first} == {"a", "b"}


def test_free_names_go_on_from_the_files_that_exist(tmp_path):
    for name in ("a.png", "a-2.png", "b1.5.gif"):
        (tmp_path / name).touch()
    assert free_path(tmp_path / "a.png").name == "a-3.png"
    assert free_path(tmp_path / "a.gif").name == "a.gif"
    assert free_path(tmp_path / "b1.5", ".png", ".gif").name == "b1.5-2"
    assert free_path(tmp_path / "c1.5", ".png", ".gif").name == "c1.5"


# What is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ((3.0,), r"got start 3, but .*a\.mkv lasts 0\.40 s"),
        ((0.33,), r"lasts 0\.40 s and has 2 frames from second 0\.33 on; the model needs 3:"),
        ((0.0, 5), r"has 10 frames .* needs 3, every 5th one, so 11 in all"),
        ((-1.0,), "got start -1; give 0 or more|got start -1.0"),
        ((0.0, 0), "got step 0; give 1 or more"),
    ],
)
def test_a_window_outside_the_video_is_refused(window, message, tmp_path):
    system = VideoPredictionModule(models.svg(), 3)
    with pytest.raises(InputError, match=message):
        predicted(system, tmp_path, clip(tmp_path / "a.mkv", 10), *window)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.mp4", "there is no file"),
        ("notes.txt", "got input .*notes.txt; give a folder, or a video file"),
        ("bad.mp4", "bad.mp4 can't be decoded"),
        ("empty", "found no video in"),
    ],
)
def test_what_is_no_video_is_named(name, message, tmp_path):
    (tmp_path / "empty").mkdir()
    for file in ("notes.txt", "bad.mp4"):
        (tmp_path / file).write_text("no video\n" * 99)
    with pytest.raises(InputError, match=message):
        predicted(VideoPredictionModule(models.svg(), 3), tmp_path, tmp_path / name)


def test_systems_without_frames_say_why_they_take_no_input(tmp_path):
    path = clip(tmp_path / "a.mkv", 4)
    with pytest.raises(InputError, match="VideoGAN generates videos from noise"):
        OwnClips(
            VideoGAN(LatentGenerator(models.SHAPE, partial(ResidualEuler, field=models.FIELD))),
            path,
            Window(),
        )
    fields = models.separation(fields=True)
    with pytest.raises(InputError, match="predicts fields of physics"):
        OwnClips(VideoPredictionModule(fields, 3), path, Window())


# The command line ---------------------------------------------------------------------------

CONFIG = """
model:
  class_path: video_ode.module.VideoPredictionModule
  init_args: {predictor: {class_path: tests.video_ode.fakes.Guess}, n_cond: 3}
data: {class_path: VideoFolder, init_args: {root: nowhere}}
trainer: {accelerator: cpu, enable_progress_bar: false}
"""


def test_one_command_predicts_a_folder_at_quarters_of_frames_without_the_data_set(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    weights = VideoPredictionModule(Guess(), 3).state_dict()
    torch.save({"state_dict": weights}, tmp_path / "w.ckpt")
    for name in ("one.mkv", "two.mkv"):
        clip(tmp_path / "in" / name, 12)
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    command = ["predict", "--config", "tiny.yaml", "--ckpt_path", "w.ckpt", "--input", "in",
               "--start", "0.08", "--times", "-1:5:0.25", "--n", "1"]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert "1 of 3 videos aren't predicted:" in told.err
    assert "bad.mp4 can't be decoded" in told.err
    folder = tmp_path / "lightning_logs/video_ode/tiny-predict/version_0/predictions"
    endings = (".gif", ".mp4", ".png", "_frames", ".npz")
    expected = {f"{x}_start0.08_-1to5by0.25{e}" for x in ("one", "two") for e in endings}
    assert {path.name for path in folder.iterdir()} == expected
    assert all(f"prediction: {folder / name}\n" in told.out for name in expected)
    main([*command[:6], "in/one.mkv", *command[7:], "--formats", "[npz]", "--out", "here"])
    with np.load("here/one_start0.08_-1to5by0.25.npz") as found:
        assert found["samples"].shape == (4, 24, 3, 16, 16)
    assert not (tmp_path / "predictions").exists()
