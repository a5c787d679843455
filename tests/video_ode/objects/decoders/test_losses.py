import pytest
import torch

from common.errors import InputError
from video_ode.objects.decoders.base import FeatureDecoder
from video_ode.objects.decoders.convolutional import ConvolutionalDecoder
from video_ode.objects.decoders.irevnet import IRevNet
from video_ode.objects.decoders.losses import cycle_loss, feature_loss, pixel_loss
from video_ode.objects.decoders.residual import ResidualFlowDecoder


def irevnet():
    return IRevNet((3, 8, 8), 5, (2, 2), (1, 2), norm="layer")


def residual():
    return ResidualFlowDecoder((3, 8, 8), 5, (1, 1), width=8)


@pytest.mark.parametrize("make", [irevnet, residual])
def test_feature_loss_is_that_of_the_first_channels(make):
    net, frames, features = make().eval(), torch.rand(3, 3, 8, 8), torch.randn(3, 5, 2, 2)
    found = net.encode(frames)[0].detach().numpy()
    expected = ((found - features.numpy()) ** 2).mean()
    assert feature_loss(net, frames, features).item() == pytest.approx(expected, rel=1e-5)


def test_pixel_loss_is_that_of_frames_before_the_clamp():
    net, features, frames = irevnet(), 5 * torch.randn(3, 5, 2, 2), torch.rand(3, 3, 8, 8)
    decoded = net.decode(features, net.rest.expand(3, -1, -1, -1)).detach().numpy()
    assert decoded.min() < 0
    expected = ((decoded - frames.numpy()) ** 2).mean()
    assert pixel_loss(net, features, frames).item() == pytest.approx(expected, rel=1e-5)


class Identity(FeatureDecoder):
    def _frames(self, features):
        return features


def test_noise_of_the_pixel_loss_is_a_share_of_the_deviation_of_the_features():
    decoder = Identity((3, 64, 64), (3, 64, 64))
    features = 10 + 4 * torch.randn(16, 3, 64, 64)
    loss = pixel_loss(decoder, features, features, noise=0.25)
    assert loss.item() == pytest.approx(1.0, rel=0.03)  # (0.25 * 4) ** 2
    assert pixel_loss(decoder, features, features).item() == 0


def test_cycle_loss_is_the_relative_error_and_trains_the_decoder_alone():
    decoder, extractor = ConvolutionalDecoder((3, 8, 8), 3, 4, 2).eval(), torch.nn.AvgPool2d(4)
    features = torch.rand(2, 3, 2, 2, requires_grad=True)
    loss = cycle_loss(decoder, extractor, features)
    again = extractor(decoder(features))
    errors = [(a - f).norm() ** 2 / f.norm() ** 2 for a, f in zip(again, features, strict=True)]
    torch.testing.assert_close(loss, sum(errors) / 2)
    loss.backward()
    assert features.grad is None
    assert all(p.grad is not None for p in decoder.parameters())


@pytest.mark.parametrize("make", [irevnet, residual])
def test_both_ways_train_one_network_and_its_rest(make):
    net, features = make(), torch.randn(8, 5, 2, 2)
    frames = torch.rand(8, 3, 8, 8)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        both = [feature_loss(net, frames, features), pixel_loss(net, features, frames, 0.01)]
        optimizer.zero_grad()
        sum(both).backward()
        optimizer.step()
        losses.append([loss.item() for loss in both])
    assert losses[-1][0] < 0.8 * losses[0][0]
    assert losses[-1][1] < 0.8 * losses[0][1]
    assert net.rest.abs().max() > 0
    features.requires_grad_()
    pixel_loss(net, features, frames).backward()
    assert features.grad.abs().max() > 0


def test_targets_of_another_shape_are_refused_and_not_broadcast():
    net, frames, features = irevnet(), torch.rand(2, 3, 8, 8), torch.randn(2, 5, 2, 2)
    with pytest.raises(InputError, match=r"features \[2, 1, 2, 2\]"):
        feature_loss(net, frames, features[:, :1])
    with pytest.raises(InputError, match=r"frames \[2, 1, 8, 8\]"):
        pixel_loss(net, features, frames[:, :1])
