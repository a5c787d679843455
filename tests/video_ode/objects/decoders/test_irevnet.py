import pytest
import torch
from torch.nn.functional import mse_loss

from common.errors import InputError
from video_ode.objects.decoders.irevnet import IRevNet

# Shape, blocks, strides, widths, initial; numbers of parameters of the published code, and of
# dimensions at the output.
PUBLISHED = {
    "bijective 64": ((3, 64, 64), (2, 2, 2), (2, 2, 2), (24, 96, 384), 2, 1_338_262, 12_288),
    "bijective 32": ((3, 32, 32), (2, 2), (1, 2), (6, 24), 2, 5_808, 3_072),
    "injective 32": ((3, 32, 32), (2, 2, 2), (1, 2, 2), (16, 64, 256), 1, 597_770, 32_768),
}


def make(name, channels=10, **options):
    shape, blocks, strides, widths, initial, *_ = PUBLISHED[name]
    return IRevNet(shape, channels, blocks, strides, widths, initial, **options)


def error(net, n=2):
    frames = torch.rand(n, *net.shape)
    with torch.no_grad():
        return (net.decode(*net.encode(frames)) - frames).abs().max()


def train(net, steps):
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net.train()
    for _ in range(steps):
        frames = torch.rand(4, *net.shape)
        features, rest = net.encode(frames)
        target = torch.nn.functional.adaptive_avg_pool2d(frames, features.shape[2:])
        loss = mse_loss(features, target.repeat(1, 4, 1, 1)[:, :10]) + rest.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_numbers_of_parameters_and_dimensions(name):
    net = make(name)
    *_, parameters, dims = PUBLISHED[name]
    total = sum(p.numel() for p in net.stages.parameters())
    channels = net.feature_shape[0] + len(net.rest)
    head = 2 * channels + 10 * channels + 10  # batch norm and the classifier of ten classes
    assert total + head == parameters
    features, rest = net.encode(torch.rand(1, *net.shape))
    assert features[0].numel() + rest[0].numel() == dims
    assert features.shape[1:] == net.feature_shape


@pytest.mark.parametrize("name", PUBLISHED)
def test_decode_undoes_encode(name):
    assert error(make(name).eval()) < 1e-5


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("name", ["bijective 64", "injective 32"])
def test_decode_undoes_encode_after_training(name, norm):
    net = make(name, norm=norm)
    train(net, 5)
    assert error(net.eval()) < 1e-5


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_appended_zeros_do_not_enlarge_rounding_errors(norm):
    """The running variance of their channels goes to zero, and a norm divides by it."""
    net = IRevNet((3, 8, 8), 10, (2, 2), (1, 2), (16, 64), initial=1, norm=norm)
    train(net, 150)
    assert error(net.eval()) < 1e-5


@pytest.mark.parametrize("name", ["bijective 32", "injective 32"])
def test_decode_undoes_encode_to_double_precision(name, double):
    net = make(name)
    train(net, 2)
    assert error(net.eval()) < 1e-10


def test_decode_is_the_inverse_of_the_jacobian(double):
    """The inverse is one of the map itself, so that its Jacobian is the inverse matrix."""
    net = IRevNet((3, 4, 4), 12, (1, 1), (1, 2)).eval()
    x = torch.rand(1, 3, 4, 4)

    def there(x):
        return torch.cat([part.flatten() for part in net.encode(x.view(1, 3, 4, 4))])

    def back(z):
        features, rest = z[:12].view(1, 12, 1, 1), z[12:].view(1, 36, 1, 1)
        return net.decode(features, rest).flatten()

    forward = torch.autograd.functional.jacobian(there, x.flatten())
    backward = torch.autograd.functional.jacobian(back, there(x))
    torch.testing.assert_close(backward @ forward, torch.eye(48))
    assert abs(forward.det().abs() - 1) < 1e-9  # additive couplings keep the volume


def test_training_mode_with_batch_norm_has_no_inverse():
    net = make("bijective 32")
    features, rest = net.encode(torch.rand(2, 3, 32, 32))
    with pytest.raises(InputError, match=r"statistics of each batch.*eval\(\).*norm: layer"):
        net.decode(features, rest)
    with pytest.raises(InputError, match="evaluation mode"):
        net(features)
    assert error(make("bijective 32", norm="layer").train()) < 1e-5


def test_the_shape_of_the_report_is_refused_with_numbers_that_fit():
    shape, blocks, strides = (3, 416, 416), (1, 1, 1, 1), (1, 2, 2, 1)
    with pytest.raises(InputError) as refused:
        IRevNet(shape, 255, blocks, strides, (64, 256, 1024, 128))
    message = str(refused.value)
    assert "widths [64, 256, 1024, 128] with strides [1, 2, 2, 1]" in message
    assert "[64, 256, 1024, 1024]" in message
    assert "[6, 24, 96, 128]" in message
    for fitting in ((64, 256, 1024, 1024), (6, 24, 96, 128), None):
        with torch.device("meta"):
            net = IRevNet(shape, 255, blocks, strides, fitting)
        assert net.feature_shape == (255, 52, 52)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"widths": (6, 23)}, r"widths \[6, 24\]"),
        ({"widths": (5, 24)}, r"widths \[6, 24\]"),
        ({"widths": (8, 24)}, r"widths \[8, 32\]"),
        ({"channels": 49}, "stage of stride 1 and width 25"),
        ({"strides": (1, 3)}, r"strides \(1, 3\)"),
        ({"strides": (2, 2), "initial": 1, "widths": None}, "odd number of channels"),
        ({"widths": (6,)}, "one for each stage"),
        ({"blocks": (), "strides": (), "widths": None}, "one for each stage"),
        ({"blocks": (1, 0)}, "blocks"),
        ({"shape": (3, 30, 32)}, "multiples of 4"),
    ],
)
def test_networks_without_an_inverse_are_refused(options, match):
    good = {"shape": (3, 32, 32), "channels": 10, "blocks": (1, 1), "strides": (1, 2)}
    IRevNet(**good, widths=(6, 24))
    with pytest.raises(InputError, match=match):
        IRevNet(**(good | {"widths": (6, 24)} | options))


def test_features_are_decoded_with_the_rest_of_the_network():
    net = make("bijective 32").eval()
    frames = torch.rand(3, 3, 32, 32)
    features, rest = net.encode(frames)
    torch.testing.assert_close(
        net.unclamped(features), net.decode(features, torch.zeros_like(rest))
    )
    net.set_rest(frames)
    torch.testing.assert_close(net.rest.data, rest.mean(0))
    net.set_rest(frames[:1])
    assert (net(features[:1]) - frames[:1]).abs().max() < 1e-5
    assert net(10 * features).amin() == 0
    assert net(10 * features).amax() == 1
    net(features).sum().backward()
    assert net.rest.grad.abs().max() > 0


def test_tensors_of_another_shape_are_refused():
    net = make("bijective 32").eval()
    features, rest = net.encode(torch.rand(2, 3, 32, 32))
    with pytest.raises(InputError, match=r"frames \[2, 3, 64, 64\].*\[n 3 32 32\]"):
        net.encode(torch.rand(2, 3, 64, 64))
    with pytest.raises(InputError, match=r"features \[2, 9, 8, 8\].*\[n 10 8 8\]"):
        net(features[:, :9])
    with pytest.raises(InputError, match=r"rest \[2, 37, 8, 8\].*\[n 38 8 8\]"):
        net.decode(features, rest[:, :37])
