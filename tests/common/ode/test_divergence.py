"""Traces against the Jacobian that autograd writes out."""

import pytest
import torch
from torch import nn

from common.nn.fields import ConcatField
from common.ode.divergence import Exact, Hutchinson, jvp, vjp
from common.ode.regularize import JacobianNorm, KineticEnergy

pytestmark = pytest.mark.usefixtures("double")


class Plain(nn.Module):
    """A field without a `linearize` of its own."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))

    def forward(self, t, z, context=None):
        return self.net(z) * torch.cos(t)


def conv_field():
    field = ConcatField(2, 0, width=4, depth=3)
    for p in field.parameters():
        nn.init.normal_(p, std=0.3)
    return field, torch.randn(3, 2, 2, 2)


CASES = {"plain": lambda: (Plain(), torch.randn(3, 4)), "convolutional": conv_field}


def jacobians(field, t, z):
    rows = torch.autograd.functional.jacobian(lambda x: field(t, x), z)
    n = z[0].numel()
    return torch.stack(
        [rows[i].flatten(0, -len(z.shape)).reshape(n, len(z), n)[:, i] for i in range(len(z))]
    )


@pytest.mark.parametrize("case", CASES)
def test_exact_trace_and_norm_are_those_of_the_jacobian(case):
    field, z = CASES[case]()
    t = torch.tensor(0.3)
    linearized = Exact()(field, t, z, None, Exact().draw(z))
    jacobian = jacobians(field, t, z)
    torch.testing.assert_close(linearized.dz, field(t, z))
    torch.testing.assert_close(linearized.trace, torch.einsum("bii->b", jacobian))
    torch.testing.assert_close(linearized.frobenius, jacobian.square().sum((1, 2)))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_hutchinson_is_unbiased(case, noise, mode):
    field, z = CASES[case]()
    t, z = torch.tensor(0.3), z[:1]
    many = z.expand(20_000, *z.shape[1:])
    divergence = Hutchinson(noise, mode)
    estimate = divergence(field, t, many, None, divergence.draw(many))
    exact = Exact()(field, t, z, None, z)
    for ours, true in [
        (estimate.trace, exact.trace),
        (estimate.frobenius, exact.frobenius),
    ]:
        assert abs(ours.mean() - true) < 4 * ours.std() / 20_000**0.5


@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_the_jacobian_and_gradients_pass_through(case):
    field, z = CASES[case]()
    t, v = torch.tensor(0.3), torch.randn_like(z)
    jacobian, flat = jacobians(field, t, z), v.flatten(1)
    for product, true in [
        (jvp, torch.einsum("bij,bj->bi", jacobian, flat)),
        (vjp, torch.einsum("bij,bi->bj", jacobian, flat)),
    ]:
        dz, dv = product(field, t, z, v)
        torch.testing.assert_close(dv.flatten(1), true)
        (dz.sum() + (dv * v).sum()).backward()
    grads = [p.grad for p in field.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in grads)


def test_forward_and_reverse_estimates_train_alike():
    field, z = conv_field()
    t, gradients = torch.tensor(0.3), []
    noise = Hutchinson().draw(z)
    for mode in ("forward", "reverse"):
        linearized = Hutchinson(mode=mode)(field, t, z, None, noise)
        loss = (linearized.trace + linearized.dz.square().flatten(1).sum(1)).sum()
        gradients.append(torch.autograd.grad(loss, list(field.parameters())))
    for forward, reverse in zip(*gradients, strict=True):
        torch.testing.assert_close(forward, reverse)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("case", CASES)
def test_products_work_in_inference_mode(case, mode):
    field, z = CASES[case]()
    divergence, t = Hutchinson(mode=mode), torch.tensor(0.3)
    noise = divergence.draw(z)
    outside = divergence(field, t, z, None, noise)
    with torch.inference_mode():
        inside = divergence(field, t + 0, z + 0, None, noise + 0)
    torch.testing.assert_close(inside.trace, outside.trace)


def test_regularizers_are_rnodes_means_or_the_reports_sums():
    field, z = conv_field()
    t = torch.tensor(0.3)
    linearized = Exact()(field, t, z, None, z)
    here = (field, t, z, None, linearized)
    squares, norm, d = linearized.dz.square().flatten(1), linearized.frobenius, z[0].numel()
    torch.testing.assert_close(KineticEnergy().rate(*here), 0.5 * squares.mean(1))
    torch.testing.assert_close(JacobianNorm().rate(*here), norm / d)
    sums = dict(per_dimension=False)
    torch.testing.assert_close(KineticEnergy(**sums).rate(*here), squares.sum(1))
    torch.testing.assert_close(JacobianNorm(**sums).rate(*here), norm)
