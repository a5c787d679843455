import pytest
import torch

from common.errors import InputError
from video_ode.objects.decoders.convolutional import ConvolutionalDecoder


@pytest.mark.parametrize("scale", [1, 2, 4, 8, 16])
def test_features_of_any_scale_become_frames_and_all_weights_learn(scale):
    decoder = ConvolutionalDecoder((3, 32, 64), 5, scale, width=4)
    frames = decoder(torch.randn(2, 5, 32 // scale, 64 // scale))
    assert frames.shape == (2, 3, 32, 64)
    assert 0 < frames.min() < frames.max() < 1
    frames.square().sum().backward()
    for p in decoder.parameters():
        assert p.grad is not None


def test_it_learns_to_invert_a_pooling_up_to_its_details():
    decoder = ConvolutionalDecoder((3, 16, 16), 3, 4, width=8)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    for _ in range(120):
        features = torch.rand(16, 3, 4, 4)
        frames = torch.nn.functional.interpolate(features, scale_factor=4)
        loss = (decoder(features) - frames).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.02  # the best constant has 1 / 12


@pytest.mark.parametrize(
    ("scale", "match"), [(3, "power of two"), (6, "power of two"), (64, "32x48"), (0, "scale")]
)
def test_other_scales_are_refused(scale, match):
    with pytest.raises(InputError, match=match):
        ConvolutionalDecoder((3, 32, 48), 5, scale)
    with pytest.raises(InputError, match=r"\[n 5 8 12\]"):
        ConvolutionalDecoder((3, 32, 48), 5, 4)(torch.rand(1, 5, 12, 8))
