"""The system of predicted features: losses by hand, evaluation, and the command line."""

import csv

import pytest
import torch
from torch.nn.functional import mse_loss

from common.errors import InputError
from common.metrics.detection import AveragePrecision, Truths
from tests.video_ode.objects.small import (
    small_clips,
    small_detector,
    small_drives,
    small_predictor,
)
from video_ode.adversarial import Hinge
from video_ode.cli import main
from video_ode.evaluation.report import MODEL
from video_ode.objects.decoders.convolutional import ConvolutionalDecoder
from video_ode.objects.evaluation import TRUE, FeatureEvaluation, FeatureReport
from video_ode.objects.losses import FeatureCritic
from video_ode.objects.module import FeaturePredictionModule

SMALL = """
model:
  class_path: video_ode.objects.module.FeaturePredictionModule
  init_args:
    extractor: {class_path: video_ode.objects.detection.yolo.YOLO, init_args: {width: 2}}
    predictor:
      class_path: video_ode.objects.predictor.FeaturePredictor
      init_args:
        width: 6
        dynamics:
          class_path: video_ode.dynamics.ode.NeuralODE
          init_args:
            field: {class_path: video_ode.dynamics.fields.ConvField, init_args: {width: 4}}
            solver: {method: rk4, step_size: 1.0}
data:
  class_path: video_ode.objects.feature_clips.FeatureClips
  init_args:
    batch_size: 2
    videos:
      class_path: common.data.driving.scenes.DrivingScenes
      init_args: {size: [32, 32], tracks: true, n_train: 4, n_val: 2, n_test: 2, n_frames: 5}
trainer:
  accelerator: cpu
  max_epochs: 1
  num_sanity_val_steps: 0
  log_every_n_steps: 1
  callbacks:
    - {class_path: video_ode.evaluation.samples.AnimatedSamples, init_args: {n: 2}}
best: {monitor: val/feature_error, mode: min}
"""


def module(**options):
    def predictor(channels, strides):
        return small_predictor()

    return FeaturePredictionModule(small_detector(), predictor, **options)


@pytest.fixture
def batch(tmp_path):
    data = small_clips(tmp_path)
    data.setup("test")
    return next(iter(data.test_dataloader()))


@pytest.fixture
def command(tmp_path):
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)

    def run(word, *options):
        words = ["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "runs")]
        main([word, *words, "--data.cache", str(tmp_path / "cache"), *options])

    return run


def test_the_loss_is_the_error_of_the_later_frames(batch):
    system = module()
    loss, terms = system.loss("predictor", batch)
    features = [x.float() for x in batch.features]
    times = batch.clip.times[0]
    found = system.predictor([x[:, :3] for x in features], times[:3], times[3:]).features
    each = [mse_loss(x, y[:, 3:]) for x, y in zip(found, features, strict=True)]
    torch.testing.assert_close(loss, sum(each) / 3)
    assert set(terms) == {"features", "kl"}


def test_each_weight_adds_its_term(batch):
    decoder = ConvolutionalDecoder((3, 32, 32), 8, 8, width=4).eval()
    weights = {"reading_weight": 0.3, "adversarial_weight": 0.2, "pixel_weight": 0.7}
    system = module(critic=lambda c: FeatureCritic(c, 4), decoder=decoder, **weights)
    loss, terms = system.loss("predictor", batch)
    torch.testing.assert_close(
        loss,
        terms["features"]
        + terms["kl"]
        + 0.3 * terms["readings"]
        + 0.2 * terms["adversarial"]
        + 0.7 * terms["pixels"],
    )
    features = [x.float() for x in batch.features]
    path = system(batch, batch.clip.times[0, 3:])
    true, flat = [x[:, 3:] for x in features], [x.flatten(0, 1) for x in path.features]
    pixels = mse_loss(decoder.unclamped(flat[1]), batch.clip.frames[:, 3:].flatten(0, 1) / 255)
    torch.testing.assert_close(terms["pixels"], pixels.detach())
    wanted = [x.flatten(0, 1) for x in true]
    readings = system.extractor.reading_loss(flat, wanted)
    torch.testing.assert_close(terms["readings"], readings.detach())
    assert readings > system.extractor.reading_loss(wanted, wanted)
    critic_loss, _ = system.loss("critic", batch)
    scores = system.critic(true), system.critic(path.features)
    torch.testing.assert_close(critic_loss, Hinge().critic(*scores))


def test_only_the_predictor_learns(batch):
    system = module(decoder=ConvolutionalDecoder((3, 32, 32), 8, 8, width=4)).train()
    before = {name: x.clone() for name, x in system.extractor.state_dict().items()}
    system.loss("predictor", batch)[0].backward()
    assert all(torch.equal(x, before[k]) for k, x in system.extractor.state_dict().items())
    assert all(p.grad is None for p in system.extractor.parameters())
    learning = {id(p) for player in system.players().values() for p in player.module.parameters()}
    assert learning == {
        id(p) for p in [*system.predictor.parameters(), *system.decoder.parameters()]
    }


def test_key_frames_skip_frames_and_keep_their_times(batch, monkeypatch):
    steps, taken = iter([1, 2, 2]), []
    monkeypatch.setattr(torch, "randint", lambda *_: torch.tensor(next(steps)))
    system = module(n_cond=2, skip=4)  # of 6 frames, every second one at most
    forward = system.predictor.forward
    monkeypatch.setattr(
        system.predictor, "forward", lambda g, t, k: taken.append((t, k)) or forward(g, t, k)
    )
    for _ in range(2):
        system.loss("predictor", batch)
    shown = [[x[0].tolist() for x in pair] for pair in taken]
    assert shown == [[[0, 1], [2, 3, 4, 5]], [[0, 2], [4]]]


def test_features_of_plain_videos_are_computed(batch):
    system, videos = module(), small_drives(batch_size=2)
    videos.setup("test")
    plain = next(iter(videos.test_dataloader()))
    found = system.features_of(plain)
    for x, y in zip(found.features, batch.features, strict=True):
        torch.testing.assert_close(x, y.float(), rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="got a batch of type Clip"):
        system.features_of(plain.clip)


def test_true_features_are_as_good_as_the_true_frames(batch):
    evaluation = FeatureEvaluation(module().extractor, 3)
    evaluation.update(batch, [x[:, 3:] for x in batch.features])
    curves = evaluation.curves()
    for name in ("map50", "map", "agreement50"):
        torch.testing.assert_close(
            torch.tensor(curves[MODEL, name]), torch.tensor(curves[TRUE, name]), equal_nan=True
        )
    assert curves[MODEL, "feature_error"] == [0, 0, 0]


def test_numbers_are_those_of_the_metric_itself(batch):
    extractor, later = module().extractor, [x[:, 2:5] for x in batch.features]
    evaluation = FeatureEvaluation(extractor, 3)
    evaluation.update(batch, later)
    by_hand, tracks = AveragePrecision(), batch.videos.tracks
    for i, found in enumerate(extractor.detections([x[:, 1].float() for x in later])):
        there = tracks.classes[i, 4] >= 0
        truth = Truths(*(x[i, 4][there] for x in (tracks.boxes, tracks.classes, tracks.ignored)))
        by_hand.update(found, truth)
    numbers = FeatureReport(evaluation).numbers(MODEL)
    curve = evaluation.curves()[MODEL, "map50"]
    torch.testing.assert_close(torch.tensor(curve[1]), torch.tensor(by_hand.compute()["map50"]))
    assert {"map50", "map50_3", "feature_error", "feature_error_3"} <= set(numbers)


def test_the_command_line_trains_tests_and_draws(command, tmp_path, capsys):
    command("fit")
    command("test", "--ckpt_path", "best")
    (run,) = (tmp_path / "runs/video_ode/small").iterdir()
    rows = {row["row"]: row for row in csv.DictReader((run / "test_table.csv").open())}
    names = {MODEL, "copy of last given", "constant velocity", TRUE}
    assert set(rows) == names
    assert float(rows[MODEL]["feature_error"]) > 0
    assert (run / "test_curves.png").exists()
    assert (run / "samples.gif").exists()
    assert "constant velocity" in capsys.readouterr().out
    command("predict", "--ckpt_path", "last", "--times", "4:-1:-0.5", "--n", "1")
    found = sorted(path.name for path in (run / "predictions").iterdir())
    assert found == ["video_00000.gif", "video_00000.mp4", "video_00000.png"]
    again = FeaturePredictionModule.load_from_checkpoint(run / "checkpoints/last.ckpt")
    assert isinstance(again.predictor.sizes[0], torch.nn.Parameter)
    assert not torch.equal(again.predictor.sizes[0], torch.ones_like(again.predictor.sizes[0]))


@pytest.mark.parametrize(
    "options",
    [
        ("--model.loss", "video_ode.objects.losses.GaussianLikelihood"),
        ("--model.critic", "video_ode.objects.losses.FeatureCritic"),
        ("--model.reading_weight", "1"),
        ("--model.skip", "2", "--model.n_cond", "2"),
        ("--model.predictor.dynamics", "video_ode.dynamics.recurrent.ConvGRU"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_each_option_is_a_line(options, command):
    command("fit", "--trainer.fast_dev_run", "1", *options)


def test_given_frames_are_shown_as_they_are(batch):
    system, times = module().eval(), torch.tensor([5.0, 1, 2.5, 0, 3])
    found = system._features_at(system.features_of(batch), times)
    for x, y in zip(found, batch.features, strict=True):
        assert torch.equal(x[:, [1, 3]], y[:, [1, 0]].float())
    for x, y in zip(found, system(batch, torch.tensor([2.5, 3, 5])).features, strict=True):
        torch.testing.assert_close(x[:, [2, 4, 0]], y)
    early = system.draw(batch, None, torch.tensor([-1.0, 0, 1.5, 2, 2.5]), 1)[0].samples[0].kinds
    assert [kind == "given" for kind in early] == [False, True, True, True, False]
    scenes = system.draw(batch, None, times, 3)
    assert [len(scene.samples) for scene in scenes] == [1, 1]  # an ODE has no other samples
    assert list(scenes[0].samples[0].kinds) == [
        "predicted",
        "given",
        "predicted",
        "given",
        "predicted",
    ]


def test_too_few_frames_are_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("fit", "--model.n_cond", "5")
    assert "got train videos of 5 frames and n_cond 5" in capsys.readouterr().err


def test_features_of_other_weights_than_the_checkpoint_are_refused(command, tmp_path, capsys):
    command("fit")
    path = next((tmp_path / "runs").rglob("last.ckpt"))
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["extractor.heads.0.bias"] += 1.0
    torch.save(saved, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit):
        command("test", "--ckpt_path", str(tmp_path / "other.ckpt"))
    assert "another feature extractor than the configuration" in capsys.readouterr().err


def test_data_of_other_classes_are_refused():
    data = small_drives()
    data.classes = ("car", "pedestrian")
    with pytest.raises(InputError, match="got data of the classes car, pedestrian, but YOLO"):
        small_detector().check(data)


def test_features_have_no_content_to_swap(command, capsys):
    command("fit")
    with pytest.raises(SystemExit):
        command("swap", "--ckpt_path", "last")
    assert "predicts no videos from conditioning frames" in capsys.readouterr().err


def test_half_precision_moves_no_boxes(batch):
    extractor, features = small_detector(), [x[:, 0].float() for x in batch.features]
    with torch.no_grad():
        exact = extractor.predictions(features).boxes
        with torch.autocast("cpu", torch.bfloat16):
            found = extractor.predictions(features).boxes
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() < 0.2


def test_features_of_another_extractor_are_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("fit", "--data.extractor", "YOLO", "--data.extractor.width", "3")
    assert "another extractor" in capsys.readouterr().err
