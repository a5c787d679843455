import math

import numpy as np
import pytest
import torch
from scipy import linalg
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torch.nn import functional

from common.errors import InputError
from common.metrics.frames import LPIPS, psnr, ssim
from common.metrics.frechet import FrechetDistance, frechet_distance
from common.metrics.video import I3DFeatures, RandomVideoFeatures

METRICS = [psnr, ssim]


def pair(*shape, dtype=torch.float64, noise=0.1):
    """Smooth frames, and the same with noise."""
    *batch, c, h, w = shape
    coarse = torch.rand(math.prod(batch), c, 5, 5, dtype=dtype)
    x = functional.interpolate(coarse, (h, w), mode="bicubic").clamp(0, 1).reshape(shape)
    return (x + noise * torch.randn(shape, dtype=dtype)).clamp(0, 1), x


def per_frame_and_channel(metric, prediction, truth):
    frames = zip(prediction.flatten(0, -4), truth.flatten(0, -4), strict=True)
    means = [
        np.mean([metric(a, b) for a, b in zip(x.numpy(), y.numpy(), strict=True)])
        for x, y in frames
    ]
    return torch.tensor(np.array(means)).reshape(prediction.shape[:-3])


def scikit_ssim(a, b):
    return structural_similarity(
        a.astype(float),
        b.astype(float),
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def scikit_psnr(a, b):
    return peak_signal_noise_ratio(b.astype(float), a.astype(float), data_range=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("ours", "theirs"), [(psnr, scikit_psnr), (ssim, scikit_ssim)])
@pytest.mark.parametrize("shape", [(2, 3, 1, 64, 64), (2, 3, 20, 33), (1, 1, 11, 11)])
def test_metric_is_that_of_scikit_image(ours, theirs, shape, dtype):
    prediction, truth = pair(*shape, dtype=dtype)
    found = ours(prediction, truth)
    assert found.dtype == dtype
    tolerance = 1e-6 if ours is ssim else 1e-5
    expected = per_frame_and_channel(theirs, prediction, truth)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=0)


def test_ssim_of_bright_flat_frames_in_single_precision_is_exact():
    prediction, truth = pair(4, 1, 64, 64, noise=0.01)
    prediction, truth = (0.9 + 0.1 * x for x in (prediction, truth))
    found = ssim(prediction.float(), truth.float()).double()
    torch.testing.assert_close(found, ssim(prediction, truth), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("metric", "best"), [(psnr, 48.1308036), (ssim, 1.0)])
def test_equal_frames_score_the_best_there_is(metric, best):
    truth = pair(2, 1, 16, 16)[1]
    torch.testing.assert_close(metric(truth, truth), torch.full((2,), best).double())


@pytest.mark.parametrize("metric", METRICS)
def test_truth_is_broadcast_over_samples(metric):
    prediction, truth = pair(3, 2, 4, 1, 16, 16)
    found = metric(prediction, truth[0])
    assert found.shape == (3, 2, 4)
    torch.testing.assert_close(found[2], metric(prediction[2], truth[0]))


def test_psnr_is_capped_where_all_pixels_are_wrong_by_one_level():
    truth = torch.zeros(3, 1, 8, 8)
    levels = torch.tensor([0.5, 1.0, 2.0])[:, None, None, None] / 255
    found = psnr(truth + levels, truth).tolist()
    assert found == pytest.approx([48.1308, 48.1308, 48.1308 - 6.0206], abs=1e-3)


def test_psnr_averages_channels_not_their_errors():
    truth = torch.zeros(2, 4, 4)
    prediction = truth.clone()
    prediction[0], prediction[1] = 0.1, 0.01
    assert psnr(prediction, truth) == pytest.approx(30, abs=1e-4)


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(InputError, match="got frames of 10 x 12"):
        ssim(torch.zeros(1, 10, 12), torch.zeros(1, 10, 12))


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory):
    """A file of AlexNet's weights, random ones, as torchvision names them."""
    torch.manual_seed(0)
    shapes = {
        0: (64, 3, 11),
        3: (192, 64, 5),
        6: (384, 192, 3),
        8: (256, 384, 3),
        10: (256, 256, 3),
    }
    state = {}
    for i, (n_out, n_in, side) in shapes.items():
        layer = nn.Conv2d(n_in, n_out, side)
        nn.init.kaiming_normal_(layer.weight)
        state |= {f"features.{i}.{k}": v.detach() for k, v in layer.named_parameters()}
    state["classifier.1.weight"] = torch.zeros(2, 2)
    path = tmp_path_factory.mktemp("alexnet") / "alexnet-owt-7be5be79.pth"
    torch.save(state, path)
    return path


def test_lpips_is_that_of_torchmetrics(alexnet):
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision can't be imported: {error}")  # justified: optional; CI has it
    from torchmetrics.functional.image.lpips import _LPIPS

    theirs = _LPIPS(pnet_rand=True, net="alex")
    theirs.net.load_state_dict(
        {
            f"slice{slice_}.{i}.{kind}": torch.load(alexnet)[f"features.{i}.{kind}"]
            for slice_, i in ((1, 0), (2, 3), (3, 6), (4, 8), (5, 10))
            for kind in ("weight", "bias")
        }
    )
    prediction, truth = pair(4, 3, 64, 48, dtype=torch.float32)
    found = LPIPS(alexnet)(prediction, truth)
    torch.testing.assert_close(found, theirs(prediction, truth, normalize=True).flatten())


def test_a_layer_of_lpips_is_what_the_paper_says(alexnet):
    """Zhang 2018, eq. 1, of the first layer, one position after another."""
    metric = LPIPS(alexnet)
    with torch.no_grad():
        for head in metric.heads[1:]:
            head.zero_()
    state = torch.load(alexnet)
    prediction, truth = pair(3, 35, 31, dtype=torch.float32)
    shift = np.array([-0.030, -0.088, -0.188])[:, None, None]
    scale = np.array([0.458, 0.448, 0.450])[:, None, None]
    weight, bias = (state[f"features.0.{kind}"].double().numpy() for kind in ("weight", "bias"))
    layers = []
    for frame in (prediction, truth):
        x = np.pad((2 * frame.double().numpy() - 1 - shift) / scale, ((0, 0), (2, 2), (2, 2)))
        rows, columns = ((side + 4 - 11) // 4 + 1 for side in (35, 31))
        y = [
            [(weight * x[:, 4 * i : 4 * i + 11, 4 * j : 4 * j + 11]).sum((1, 2, 3)) + bias
             for j in range(columns)]
            for i in range(rows)
        ]  # fmt: skip
        y = np.maximum(np.array(y), 0)
        layers.append(y / np.linalg.norm(y, axis=-1, keepdims=True))
    head = metric.heads[0].double().numpy()
    expected = ((layers[0] - layers[1]) ** 2 @ head).mean()
    assert metric(prediction, truth).item() == pytest.approx(expected, rel=1e-4)


def test_heads_are_the_shipped_ones(alexnet):
    heads = LPIPS(alexnet).heads
    assert [len(head) for head in heads] == [64, 192, 384, 256, 256]
    assert all(bool((head >= 0).all()) and float(head.max()) > 0 for head in heads)


def test_lpips_repeats_grey_and_keeps_shapes_and_mode(alexnet):
    metric = LPIPS(alexnet).train()
    assert not metric.training
    assert not any(p.requires_grad for p in metric.parameters())
    prediction, truth = pair(3, 2, 4, 1, 32, 32, dtype=torch.float32)
    found = metric(prediction, truth[0])
    assert found.shape == (3, 2, 4)
    coloured = metric(prediction[1].expand(-1, -1, 3, -1, -1), truth[0].expand(-1, -1, 3, -1, -1))
    torch.testing.assert_close(found[1], coloured)
    assert metric(truth, truth).abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 30, 64), (1, 64, 30), (2, 64, 64)])
def test_frames_that_alexnet_cannot_take_are_refused(alexnet, shape):
    with pytest.raises(InputError, match="at least 31 x 31"):
        LPIPS(alexnet)(torch.zeros(shape), torch.zeros(shape))


def test_missing_and_wrong_weights_of_lpips_are_named(tmp_path):
    with pytest.raises(InputError, match=r"found no file .*a\.pth; .*alexnet-owt-7be5be79\.pth"):
        LPIPS(tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"b\.pth can't be read"):
        LPIPS(tmp_path / "b.pth")
    torch.save({"features.0.weight": torch.zeros(2)}, tmp_path / "c.pth")
    with pytest.raises(InputError, match=r"c\.pth isn't AlexNet"):
        LPIPS(tmp_path / "c.pth")


def videos(count, seed, channels=3, top=256, length=10):
    noise = torch.Generator().manual_seed(seed)
    size = (count, length, channels, 8, 8)
    return torch.randint(0, top, size, generator=noise, dtype=torch.uint8)


def closed_form(a, b):
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * linalg.sqrtm(s @ t).real)


@pytest.mark.parametrize("channels", [1, 3])
def test_distance_is_the_closed_form(channels):
    features = RandomVideoFeatures()
    real, fake = features(videos(200, 0, channels)), features(videos(150, 1, channels, top=200))
    assert real.shape == (200, features.num_features)
    expected = closed_form(real.double().numpy(), fake.double().numpy())
    assert frechet_distance(real, fake).item() == pytest.approx(expected, rel=1e-5)


def test_distance_of_fewer_videos_than_features_is_finite_and_zero_to_itself():
    features = RandomVideoFeatures()(videos(5, 0))
    assert frechet_distance(features, features.flip(0)).item() == pytest.approx(0, abs=1e-6)


def test_the_metric_of_batches_takes_videos_and_is_the_distance_of_all_features():
    features = RandomVideoFeatures()
    real, fake = videos(80, 0), videos(90, 1, top=200)
    metric = FrechetDistance(features)
    for part in real.split(30):
        metric.update(part, real=True)
    for part in fake.split(30):
        metric.update(part, real=False)
    expected = frechet_distance(features(real), features(fake)).item()
    assert metric.compute().item() == pytest.approx(expected, rel=1e-4)


def test_distance_needs_two_of_each():
    with pytest.raises(InputError, match="got 2 real and 1 generated"):
        frechet_distance(torch.zeros(2, 3), torch.zeros(1, 3))


def test_random_features_depend_on_their_seed_alone_and_look_at_motion():
    x = videos(2, 0)
    torch.testing.assert_close(RandomVideoFeatures()(x), RandomVideoFeatures()(x))
    assert not torch.equal(RandomVideoFeatures(1)(x), RandomVideoFeatures()(x))
    shuffled = x[:, torch.randperm(10)]
    assert not torch.allclose(RandomVideoFeatures()(x), RandomVideoFeatures()(shuffled))
    assert RandomVideoFeatures.name == "random_feature_frechet_video"
    with pytest.raises(InputError, match="2 channels"):
        RandomVideoFeatures()(videos(1, 0, channels=2))


@pytest.fixture
def program(tmp_path):
    class Program(nn.Module):
        def forward(
            self,
            x: torch.Tensor,
            rescale: bool = False,
            resize: bool = False,
            return_features: bool = False,
        ) -> torch.Tensor:
            if not (rescale and resize and return_features):
                x = x * 0
            return x.mean((3, 4)).flatten(1)

    path = tmp_path / "i3d.pt"
    torch.jit.script(Program()).save(str(path))
    return path


def test_i3d_is_called_with_channels_first_and_its_options(program):
    features = I3DFeatures(program)
    assert (features.name, features.num_features) == ("fvd", 400)
    x = videos(2, 0, channels=1)
    expected = x.float().mean((3, 4)).transpose(1, 2).repeat(1, 3, 1).flatten(1)
    torch.testing.assert_close(features(x), expected)


def test_videos_too_short_for_fvd_are_refused(program):
    with pytest.raises(InputError, match="got videos of 9 frames; FVD needs at least 10"):
        I3DFeatures(program)(videos(2, 0, length=9))


def test_missing_and_wrong_programs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"found no file .*a\.pt; FVD needs I3D"):
        I3DFeatures(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"b\.pt isn't a TorchScript program"):
        I3DFeatures(tmp_path / "b.pt")
