from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import InputError
from video_ode.objects.decoders.inversion import feature_error, optimized_frames, total_variation


def network():
    net = nn.Sequential(nn.Conv2d(3, 16, 5, 2, 2), nn.LeakyReLU(0.1), nn.Conv2d(16, 8, 3, 2, 1))
    return net.eval()


def scenes(n=2, size=16):
    """Smooth random frames from 0.1 to 0.9."""
    coarse = 0.1 + 0.8 * torch.rand(n, 3, size // 4, size // 4)
    return nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")


def test_the_features_are_recovered():
    net, frames = network(), scenes()
    with torch.no_grad():
        wanted = net(frames)
        before = feature_error(net(torch.full_like(frames, 0.5)), wanted)
        found = optimized_frames(net, wanted, torch.full_like(frames, 0.5), 150, variation=0.0)
        after = feature_error(net(found), wanted)
    assert before.min() > 0.05
    assert after.max() < 1e-4
    assert 0 <= found.min() < found.max() <= 1


def test_a_linear_extractor_that_keeps_everything_gives_the_frame_itself():
    turn = torch.linalg.qr(torch.randn(192, 192)).Q
    frames = scenes(size=8)
    found = optimized_frames(
        lambda x: x.flatten(1) @ turn, frames.flatten(1) @ turn, torch.rand_like(frames),
        steps=400, variation=0.0,
    )  # fmt: skip
    assert (found - frames).abs().max() < 0.01


def test_it_starts_from_the_given_frame_and_keeps_what_features_do_not_see():
    frames, start = scenes(), scenes()
    half = lambda x: x[:, :, :8]
    assert (optimized_frames(half, half(frames), start, steps=0) - start).abs().max() < 2e-3
    found = optimized_frames(half, half(frames), start, steps=300, variation=0.0)
    assert (found[:, :, :8] - frames[:, :, :8]).abs().max() < 0.02
    assert (found[:, :, 8:] - start[:, :, 8:]).abs().max() < 2e-3


def test_total_variation_is_lower_with_its_prior():
    net, frames = network(), scenes()
    noisy = (frames + 0.2 * torch.randn_like(frames)).clamp(0, 1)
    with torch.no_grad():
        wanted = net(frames)
    variations = [
        total_variation(optimized_frames(net, wanted, noisy, 100, variation=weight))
        for weight in (0.0, 0.1, 1.0)
    ]
    assert (variations[1] < 0.9 * variations[0]).all()
    assert (variations[2] < 0.9 * variations[1]).all()


def test_frames_of_a_batch_are_independent_and_nothing_else_learns(double):
    net, frames = network(), scenes()
    wanted = net(frames).detach()
    start = torch.full_like(frames, 0.4)
    both = optimized_frames(net, wanted, start, 20)
    alone = optimized_frames(net, wanted[1:], start[1:], 20)
    torch.testing.assert_close(both[1:], alone)
    assert all(p.grad is None for p in net.parameters())
    assert not both.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    net, frames = network(), scenes()
    here = optimized_frames(net, net(frames), frames.flip(3), 3)
    with mode():
        there = optimized_frames(net, net(frames), frames.flip(3), 3)
    torch.testing.assert_close(there, here)


def test_several_feature_maps_count_equally():
    one, two = torch.tensor([[3.0, 4.0]]), torch.tensor([[[1.0], [0.0]]])
    error = feature_error([one + 1, two + 1], [one, two])
    torch.testing.assert_close(error, torch.tensor([(2 / 25 + 2 / 1) / 2]))
    frames = scenes()
    maps = partial(nn.functional.avg_pool2d, kernel_size=2)
    several = lambda x: (x, maps(x))
    found = optimized_frames(several, several(frames), frames.flip(3), 200, variation=0.0)
    assert feature_error(several(found), several(frames)).max() < 1e-3


def test_total_variation_is_numpys():
    frames = torch.rand(2, 3, 5, 7)
    arrays = frames.numpy()
    expected = [
        np.abs(np.diff(a, axis=1)).mean() + np.abs(np.diff(a, axis=2)).mean() for a in arrays
    ]
    torch.testing.assert_close(total_variation(frames).numpy(), np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"start": torch.full((1, 3, 4, 4), 255.0)}, "to 255"),
        ({"start": torch.full((1, 3, 4, 4), torch.nan)}, "nan"),
        ({"features": torch.rand(1, 3, 2, 2)}, r"wanted are features .*\(1, 3, 2, 2\)"),
        ({"features": [torch.rand(1, 3, 4, 4)] * 2}, "wanted are features"),
        ({"steps": -1}, "steps"),
        ({"rate": 0.0}, "rate"),
        ({"variation": -1.0}, "variation"),
    ],
)
def test_wrong_input_is_refused(options, match):
    good = {"features": torch.rand(1, 3, 4, 4), "start": torch.rand(1, 3, 4, 4), "steps": 1}
    optimized_frames(lambda x: x, **good)
    with pytest.raises(InputError, match=match):
        optimized_frames(lambda x: x, **(good | options))
