"""Segmentation: class maps from features, their loss and scores, and the weights that ship."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.data.driving.scenes import DrivingScenes
from common.data.streets import STREET_CLASSES
from common.errors import InputError
from video_ode.objects.drawing import COLOURS
from video_ode.objects.extractor import fingerprint
from video_ode.objects.feature_clips import FeatureClips
from video_ode.objects.module import moments
from video_ode.objects.segmentation.segmenter import SegmentationScores
from video_ode.objects.segmentation.train_segmenter import class_ious, train
from video_ode.objects.segmentation.unet import WEIGHTS, UNet
from video_ode.objects.shipped import SIZE

SCENES = {"size": (32, 48), "n_frames": 3, "n_test": 4, "batch_size": 2}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return UNet(width=4).eval()


def labelled(**settings):
    return DrivingScenes(**SCENES, labels=True, **settings).dataset("test").__getitems__([0, 1])


@pytest.mark.parametrize("skips", [True, False])
def test_features_are_all_that_the_decoder_reads(skips):
    network = UNet(width=4, skips=skips).eval()
    frames = torch.rand(2, 3, 32, 48)
    maps = network.features(frames)
    assert len(maps) == len(network.channels) == len(network.strides) == (4 if skips else 1)
    for x, stride, channels in zip(maps, network.strides, network.channels, strict=True):
        assert x.shape == (2, channels, 32 // stride, 48 // stride)
    logits = network.logits(maps)
    assert logits.shape == (2, len(STREET_CLASSES), 32, 48)
    for found, true in zip(network.readings(maps), logits.argmax(1), strict=True):
        assert found.dtype == torch.uint8
        assert torch.equal(found.long(), true)
    for k, x in enumerate(maps):  # each feature matters
        changed = [*maps[:k], x + 1, *maps[k + 1 :]]
        assert not torch.equal(network.logits(changed), logits)


def test_miou_equals_a_count_by_hand():
    maps = np.random.default_rng(0).integers(0, 4, (3, 5, 6, 7), dtype=np.uint8)
    maps[maps == 2] = 3  # class 2 occurs nowhere: it is left out, as class 4
    found, truths, own = ([*map(torch.from_numpy, x)] for x in maps)
    scores = SegmentationScores(5)
    for part in (slice(0, 2), slice(2, 5)):  # counted over all frames, not frame by frame
        scores.update(found[part], truths[part], own[part])

    def miou(a, b):
        both = [((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in (0, 1, 3)]
        return sum(both) / 3

    expected = {"miou": miou(maps[0], maps[1]), "agreement": miou(maps[0], maps[2])}
    assert scores.compute() == pytest.approx(expected, abs=1e-6)


def test_loss_of_readings_is_the_entropy_where_features_agree(network):
    network.double()
    wanted = [
        torch.randn(2, c, 32 // s, 32 // s, dtype=torch.float64)
        for c, s in zip(network.channels, network.strides, strict=True)
    ]
    maps = [x.clone().requires_grad_() for x in wanted]
    loss = network.reading_loss(maps, wanted)
    likely = network.logits(wanted).softmax(1)
    torch.testing.assert_close(loss, torch.special.entr(likely).sum(1).mean())
    for gradient in torch.autograd.grad(loss, maps):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    for scale in (0.9, 1.1):
        assert network.reading_loss([scale * x for x in wanted], wanted) > loss


def test_truths_are_the_labels_of_the_frame(network):
    videos = labelled()
    for found, true in zip(network.truths(videos, 1), videos.labels[:, 1], strict=True):
        assert torch.equal(found, true)
    with pytest.raises(InputError, match=r"without the classes.* labels: true"):
        network.truths(videos._replace(labels=None), 1)
    few = UNet(("road", "rest"), width=4)
    with pytest.raises(InputError, match=r"labels up to \d, but the network has .* 0 to 1"):
        few.truths(videos, 1)


def test_wrong_sizes_are_refused(network):
    with pytest.raises(InputError, match="got frames of 40x48; UNet needs sides that 16"):
        network.features(torch.rand(1, 3, 40, 48))
    maps = network.features(torch.rand(1, 3, 32, 32))
    with pytest.raises(InputError, match=r"got features .* with \(4, 8, 16, 32\) channels"):
        network.logits(maps[1:])
    with pytest.raises(InputError, match=r"got the classes .* two or more"):
        UNet(("road",))
    small, large = torch.zeros(4, 4).byte(), torch.zeros(8, 8).byte()
    with pytest.raises(InputError, match="got class maps of the sizes"):
        SegmentationScores(7).update([small], [large], [small])


def test_classes_are_drawn_in_their_colours(network):
    reading = torch.tensor([[0, 6], [3, 3]]).byte()
    picture = network.drawn(torch.zeros(3, 2, 2).byte(), reading)
    assert picture.shape == (3, 4, 4)
    expected = (0.6 * torch.tensor(COLOURS)[reading.long()]).round().byte()
    assert torch.equal(picture[:, ::2, ::2], expected.movedim(-1, 0))


def test_labels_are_kept_beside_the_features(network, tmp_path):
    def stored(**settings):
        videos = DrivingScenes(**SCENES, tracks=True, **settings)
        return FeatureClips(videos, network, str(tmp_path)).dataset("test").__getitems__([1, 0])

    batch = stored(labels=True)
    assert torch.equal(batch.videos.labels, labelled().labels[[1, 0]])
    assert torch.equal(batch.select([1]).to("cpu").videos.labels, labelled().labels[:1])
    assert stored().videos.labels is None  # another set, in another folder
    (file,) = tmp_path.rglob("labels.npy")
    file.unlink()
    assert torch.equal(stored(labels=True).videos.labels, batch.videos.labels)


def test_labels_are_shown_at_any_time():
    videos, data = labelled(), DrivingScenes(**SCENES, labels=True)
    times = torch.tensor([0.5, 1.0])
    for shown, number in zip(moments(videos, data, times).labels, (0, 1), strict=True):
        scene = data.scene("test", number)
        for found, time in zip(shown, times.tolist(), strict=True):
            assert torch.equal(found, torch.from_numpy(scene.at(time).labels))
    held = moments(videos, None, times).labels  # of recordings: the last frame before
    assert torch.equal(held, videos.labels[:, [0, 1]])


@pytest.mark.parametrize(("skips", "least"), [(True, 0.85), (False, 0.75)])
def test_shipped_weights_segment_test_scenes(skips, least):
    network = UNet.pretrained() if skips else UNet.pretrained_bottleneck()
    assert not network.training
    assert WEIGHTS[skips].stat().st_size <= 1_000_000
    frame_bytes = sum(2 * x.numel() for x in network.features(torch.rand(1, 3, *SIZE)))
    assert frame_bytes <= 200_000
    assert class_ious(network, 20).mean() > least


@pytest.mark.parametrize("skips", [True, False])
def test_training_writes_weights_in_half_precision(skips, tmp_path, capsys):
    path = tmp_path / "unet.safetensors"
    train(skips=skips, steps=2, batch_size=4, n_test=2, out=str(path))
    assert "mIoU" in capsys.readouterr().out
    weights = load_file(path)
    assert {x.dtype for x in weights.values()} == {torch.float16, torch.int64}
    network = UNet(skips=skips)
    network.load_state_dict({name: x.float() for name, x in weights.items()})
    assert fingerprint(network) != fingerprint(UNet.pretrained())
