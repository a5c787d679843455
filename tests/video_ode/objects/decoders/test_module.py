import pytest
import torch
from torch.nn.functional import mse_loss

from common.data.driving.scenes import DrivingScenes
from common.errors import InputError
from tests.video_ode.objects.decoders.test_losses import Identity
from video_ode.cli import main
from video_ode.evaluation.pictures import Scene
from video_ode.objects.decoders.convolutional import ConvolutionalDecoder
from video_ode.objects.decoders.evaluation import DecodedScores
from video_ode.objects.decoders.inversion import OptimizedDecoder, feature_error
from video_ode.objects.decoders.irevnet import IRevNet
from video_ode.objects.decoders.module import FrameDecoderModule
from video_ode.objects.detection.yolo import YOLO
from video_ode.objects.feature_clips import FeatureClip, FeatureClips

SHAPE = (3, 32, 32)
DATA = {"size": (32, 32), "tracks": True, "n_train": 4, "n_val": 2, "n_test": 2}
LENGTHS = {"n_frames": 2, "n_eval_frames": 3}


def irevnet(**options):
    return IRevNet(SHAPE, 4, (1, 1), (2, 2), **{"norm": "layer", **options})


def convolutional():
    return ConvolutionalDecoder(SHAPE, 4, 8, 2)


def module(decoder=None, **options):
    torch.manual_seed(0)
    return FrameDecoderModule(YOLO(width=1), decoder or irevnet(), **options)


def measured(**options):
    """System whose features had a mean of 3 and a standard deviation of 2."""
    system = module(**options)
    system.mean.fill_(3)
    system.deviation.fill_(2)
    return system


def clip(system):
    """Two test videos with their features."""
    data = DrivingScenes(**DATA, **LENGTHS)
    videos = data.dataset("test").__getitems__([0, 1])
    with torch.no_grad():
        features = system.extractor.features(videos.clip.frames.flatten(0, 1) / 255)
    return FeatureClip([x.unflatten(0, (2, 3)) for x in features], videos)


def test_the_loss_is_the_weighted_sum_and_each_weight_has_effect():
    frames, features = torch.rand(2, *SHAPE), torch.randn(2, 4, 4, 4)
    weights = {"pixel_weight": 2.0, "feature_weight": 3.0, "cycle_weight": 5.0}
    system = measured(**weights)
    decoder, relative = system.decoder, lambda x: 0.25 * (x - 3) / 2
    decoded = decoder.decode(relative(features), decoder.rest.expand(2, -1, -1, -1))
    seen = system.extractor.features(decoded.clamp(0, 1))[1]
    expected = {
        "pixel": mse_loss(decoded, frames),
        "feature": mse_loss(decoder.encode(frames)[0], relative(features)),
        "cycle": feature_error(relative(seen), relative(features)).mean(),
    }
    loss, terms = system.loss(frames, features)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    total = 2 * expected["pixel"] + 3 * expected["feature"] + 5 * expected["cycle"]
    torch.testing.assert_close(loss, total)
    for name in weights:
        others = {other: 0.0 for other in weights if other != name}
        system = measured(**{**others, name: weights[name]})
        loss, terms = system.loss(frames, features)
        kind = name.removesuffix("_weight")
        torch.testing.assert_close(loss, weights[name] * expected[kind])
        assert list(terms) == [kind]


def test_noise_reaches_the_decoder():
    system = module(noise=0.5)
    system.decoder, system.mean = Identity((3, 64, 64), (3, 64, 64)), torch.zeros(3, 1, 1)
    system.deviation = torch.ones(3, 1, 1)
    frames = torch.randn(8, 3, 64, 64)
    loss, _ = system.loss(frames, 4 * frames)
    assert loss.item() == pytest.approx(0.5**2, rel=0.05)


@pytest.mark.parametrize(
    ("decoder", "options", "match"),
    [
        (convolutional, {"feature_weight": 1.0}, "ConvolutionalDecoder gives no features"),
        (irevnet, {"pixel_weight": 0.0}, "nothing is trained"),
        (irevnet, {"pixel_weight": -1.0}, "pixel_weight"),
        (irevnet, {"pixel_weight": 0.0, "feature_weight": 1.0, "noise": 0.1}, "has no effect"),
        (lambda: irevnet(norm="batch"), {}, "norm: layer"),
        (irevnet, {"scale": 0}, r"takes features \[4, 4, 4\], .* gives \[4, 8, 8\]"),
        (irevnet, {"scale": 3}, "0 to 2"),
        (lambda: OptimizedDecoder(SHAPE, YOLO(width=1)), {}, "nothing is trained"),
    ],
)
def test_what_can_not_be_trained_is_refused(decoder, options, match):
    with pytest.raises(InputError, match=match):
        module(decoder(), **options)


def test_features_alone_train_an_i_revnet_with_batch_norm():
    module(irevnet(norm="batch"), pixel_weight=0.0, feature_weight=1.0)


def test_optimized_frames_start_from_the_last_given_frame():
    torch.manual_seed(0)
    extractor = YOLO(width=1)
    last, true = torch.rand(2, *SHAPE), torch.rand(2, *SHAPE)
    features = extractor.eval().features(true)[1].detach()
    still = OptimizedDecoder(SHAPE, extractor, steps=0)
    assert (still(features, last) - last).abs().max() < 2e-3
    assert (still(features) - 0.5).abs().max() < 1e-6
    found = OptimizedDecoder(SHAPE, extractor, steps=30, rate=0.1)(features, last)
    errors = [feature_error(extractor.features(x)[1], features) for x in (found, last)]
    assert (errors[0] < 0.5 * errors[1]).all()


def test_scores_of_the_true_frames_and_of_others():
    system = module(convolutional())
    system.extractor = YOLO.pretrained()
    batch = clip(system)
    true = batch.clip.frames[:, 1] / 255
    scores = DecodedScores(system.extractor, 1)
    scores.update(true, batch, 1)
    found = scores.compute()
    assert found["psnr"] == pytest.approx(48.13, abs=0.01)
    assert found["feature_error"] < 1e-6
    assert found.keys() >= {"map50", "agreement50"}
    scores.update(torch.zeros_like(true), batch, 1)
    mse = true.square().mean((2, 3))
    half = float((-10 * mse.log10()).mean())
    assert scores.compute()["psnr"] == pytest.approx((48.13 + half) / 2, abs=0.01)
    assert scores.compute()["feature_error"] > 0.05


CONFIG = """
model:
  class_path: video_ode.objects.decoders.module.FrameDecoderModule
  init_args:
    extractor: {class_path: video_ode.objects.detection.yolo.YOLO, init_args: {width: 1}}
    decoder:
      class_path: video_ode.objects.decoders.irevnet.IRevNet
      init_args: {shape: [3, 32, 32], channels: 4, blocks: [1, 1], strides: [2, 2]}
    pixel_weight: 0.0
    feature_weight: 1.0
data:
  class_path: video_ode.objects.feature_clips.FeatureClips
  init_args:
    cache: CACHE
    videos:
      class_path: common.data.driving.scenes.DrivingScenes
      init_args: {size: [32, 32], tracks: true, n_train: 4, n_val: 2, n_test: 2, n_frames: 2,
        n_eval_frames: 3}
    batch_size: 2
trainer:
  accelerator: cpu
  max_epochs: 1
  enable_progress_bar: false
"""


def test_a_trained_decoder_comes_back_with_its_rest_and_is_tested_and_drawn(tmp_path):
    config = tmp_path / "decoder.yaml"
    config.write_text(CONFIG.replace("CACHE", str(tmp_path / "cache")))
    words = ["--config", str(config), "--trainer.default_root_dir", str(tmp_path)]
    main(["fit", *words])
    main(["test", *words, "--ckpt_path", "last"])
    main(["predict", *words, "--ckpt_path", "best", "--n", "1", "--formats", "[png]"])
    assert list(tmp_path.glob("*/*/*/predictions/*.png"))
    (path,) = tmp_path.glob("video_ode/decoder/version_0/checkpoints/last.ckpt")
    system = FrameDecoderModule.load_from_checkpoint(path).eval()
    decoder, batch = system.decoder, clip(system)
    assert decoder.rest.abs().max() > 0
    best = FrameDecoderModule.load_from_checkpoint(path.with_name("best.ckpt")).decoder
    assert best.rest.abs().max() > 0  # measured before the validation
    data = FeatureClips(
        DrivingScenes(**DATA, **LENGTHS), system.extractor, str(tmp_path / "cache")
    )
    frames = data.dataset("train").__getitems__([0, 1, 2, 3]).clip.frames / 255
    with torch.no_grad():
        rests = decoder.encode(frames.flatten(0, 1))[1]
        decoded = system(batch.features[1][:, 0])
    assert (decoder.rest <= rests.max(0).values + 1e-5).all()
    assert (decoder.rest >= rests.min(0).values - 1e-5).all()
    assert decoded.shape == (2, *SHAPE)
    scenes = system.draw(batch, None, None, 1)
    assert len(scenes) == 2
    assert isinstance(scenes[0], Scene)
    assert torch.equal(scenes[0].truth.frames, batch.clip.frames[0])
    shown = scenes[0].samples[0].frames[0] / 255
    assert (shown - decoded[0]).abs().max() < 0.01


def test_videos_without_features_train_too():
    system = module()
    batch = clip(system)
    torch.manual_seed(0)
    frames, features = system._chosen(batch)
    torch.manual_seed(0)
    plain_frames, plain = system._chosen(batch.videos)
    assert torch.equal(plain_frames, frames)
    torch.testing.assert_close(plain, features, rtol=1e-3, atol=1e-3)
    with pytest.raises(InputError, match="got a batch of type Clip"):
        system.features_of(batch.clip)


def test_features_of_another_extractor_are_refused(tmp_path):
    data = FeatureClips(DrivingScenes(**DATA, **LENGTHS), YOLO.pretrained(), str(tmp_path))
    with pytest.raises(InputError, match="another extractor"):
        data.attach(module())
