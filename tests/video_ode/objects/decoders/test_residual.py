import pytest
import torch

from common.errors import InputError, RunError
from video_ode.objects.decoders.residual import (
    LipschitzConv2d,
    LipSwish,
    ResidualFlowDecoder,
    invert_residual,
)


def make(size=16, channels=10, blocks=(2, 2), **options):
    return ResidualFlowDecoder((3, size, size), channels, blocks, **({"width": 16} | options))


def error(net):
    frames = torch.rand(4, *net.shape)
    with torch.no_grad():
        return (net.decode(*net.encode(frames)) - frames).abs().max()


def train(net, steps, rate):
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        features, rest = net.encode(torch.rand(4, *net.shape))
        loss = (features - 3).square().mean() + (rest + 3 * rest.roll(1, 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def convolutions(net):
    return [module for module in net.modules() if isinstance(module, LipschitzConv2d)]


def strengthen(net):
    """Makes all bounds active."""
    for conv in convolutions(net):
        conv.weight.data *= 100


def matrix(f, shape):
    """Jacobian of a map of feature maps, at a random point."""
    x = torch.randn(shape).flatten()
    return torch.autograd.functional.jacobian(lambda x: f(x.view(1, *shape)).flatten(), x)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_has_the_norm_that_it_is_given(kernel, double):
    """Oracle: the singular values of its matrix."""
    conv = LipschitzConv2d((3, 6, 6), 5, kernel, 0.7)
    conv.weight.data *= 10
    conv.refine_norm(100)
    assert matrix(conv, (3, 6, 6)).svd().S[0] == pytest.approx(0.7, abs=1e-3)
    conv.weight.data *= 1e-3  # smaller weights stay
    plain = torch.nn.functional.conv2d(
        torch.ones(1, 3, 6, 6), conv.weight, conv.bias, 1, kernel // 2
    )
    torch.testing.assert_close(conv(torch.ones(1, 3, 6, 6)), plain)


def test_the_spectral_norm_of_pytorch_does_not_bound_a_convolution(double):
    """Why there is a layer of our own: here the bound is exceeded nearly three times."""
    conv = torch.nn.Conv2d(1, 1, 3, padding=1, bias=False)
    torch.nn.init.ones_(conv.weight)
    conv = torch.nn.utils.parametrizations.spectral_norm(conv).eval()
    assert matrix(conv, (1, 16, 16)).svd().S[0] > 2.8


def test_lipswish_is_a_contraction(double):
    act = LipSwish()
    for beta in (-3.0, 0.5, 4.0):
        act.beta.data.fill_(beta)
        x = torch.linspace(-60, 60, 200_001, requires_grad=True)
        (slope,) = torch.autograd.grad(act(x).sum(), x)
        assert 0.99 < slope.abs().max() < 1
        sharp = torch.nn.functional.softplus(act.beta)
        torch.testing.assert_close(act(x), x * (sharp * x).sigmoid() / 1.1)


def test_the_residual_parts_stay_contractions_in_a_fast_training(double):
    net = make(8, blocks=(2,))
    strengthen(net)
    train(net, 60, 1.0)
    for conv in convolutions(net):
        norm = matrix(conv, tuple(conv.v.shape[1:])).svd().S[0]
        assert 0.96 < norm < 0.98  # 0.9 ** (1 / 3) is 0.965
    for block in net.scales[0]:
        assert matrix(block.net, (12, 4, 4)).svd().S[0] < 0.95


def test_decode_undoes_encode():
    net = make().eval()
    assert error(net) < 1e-5
    strengthen(net)
    assert error(net) < 1e-5
    net.train()
    train(net, 20, 1e-2)
    assert error(net.eval()) < 1e-5


def test_decode_undoes_encode_to_double_precision(double):
    net = make(tolerance=1e-13)
    train(net, 5, 1e-2)
    assert error(net.eval()) < 1e-10


def test_gradients_of_the_inverse_are_those_of_the_unrolled_steps(double):
    (block,) = make(8, blocks=(1,)).scales[0]
    y = torch.randn(2, 12, 4, 4, requires_grad=True)
    weights = torch.randn(2, 12, 4, 4)
    leaves = (y, *block.net.parameters())
    x = invert_residual(block.net, y, 1e-13)
    found = torch.autograd.grad((weights * x).sum(), leaves)
    x = y
    for _ in range(400):
        x = y - block.net(x)
    unrolled = torch.autograd.grad((weights * x).sum(), leaves)
    for one, other in zip(found, unrolled, strict=True):
        torch.testing.assert_close(one, other)


def test_the_inverse_has_its_closed_form_for_a_linear_map(double):
    a = torch.tensor([[0.3, -0.5], [0.4, 0.2]], requires_grad=True)
    y = torch.randn(5, 2, requires_grad=True)
    x = invert_residual(lambda x: x @ a.T, y, 1e-13)
    exact = torch.linalg.solve(torch.eye(2) + a, y.T).T
    torch.testing.assert_close(x, exact)
    for one, other in zip(
        torch.autograd.grad(x.square().sum(), (y, a)),
        torch.autograd.grad(exact.square().sum(), (y, a)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_map_that_is_no_contraction_is_an_error():
    with pytest.raises(RunError, match="not converged in 50 steps"):
        invert_residual(lambda x: 1.5 * x, torch.ones(2, 3), max_steps=50)


def test_training_refines_the_norms_and_evaluation_changes_nothing():
    net = make(8, blocks=(1,))
    frames = torch.rand(2, 3, 8, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.eval().encode(frames)
    assert all(before[name].equal(value) for name, value in net.state_dict().items())
    net.train().encode(frames)
    changed = {name for name, value in net.state_dict().items() if not before[name].equal(value)}
    assert {name.rpartition(".")[2] for name in changed} == {"v"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"coefficient": 1.0}, "less than 1"),
        ({"coefficient": 0.0}, "coefficient"),
        ({"channels": 49}, "49 channels, but frames have 48"),
        ({"size": 18}, "halved 2 times"),
        ({"blocks": (1, 0)}, "blocks"),
        ({"tolerance": 0.0}, "tolerance"),
    ],
)
def test_wrong_options_are_refused(options, match):
    with pytest.raises(InputError, match=match):
        make(**options)
