"""The density: normalised where it says so, consistent with its samples, else refused the name."""

import itertools
import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.flows.pixel import InkMap, Logit, bits_per_dim, to_bytes
from common.flows.pyramid import HaarPyramid, LaplacianPyramid, UnimodularPyramid
from common.nn.fields import ConcatField
from common.ode.divergence import Exact
from common.ode.solve import Solver
from msflow.flow import MultiScaleFlow
from tests.msflow.flows import PYRAMIDS, make_flow, randomize

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("pyramid", ["unimodular", "haar", "single"])
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_composed_flow_has_the_log_determinant_of_its_jacobian(pyramid, n_blocks):
    flow = make_flow(pyramid, n_blocks=n_blocks, steps=16)
    flow.fit_statistics(torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8))

    def latent(u):
        """Unit-interval image to base noise of all scales, and their summed ladj."""
        x, ladj = flow.pixel_map(u)
        parts = []
        for scale, level in zip(flow.scales, flow.pyramid.split([x]), strict=True):
            z, context, step = scale.standardize(level)
            ladj = ladj + step
            for block in scale.blocks:
                z, step = block(z, context)
                ladj = ladj + step
            parts.append(z.flatten())
        return torch.cat(parts), ladj

    u = torch.rand(1, 1, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda v: latent(v)[0], u).reshape(16, 16)
    true = jacobian.slogdet().logabsdet
    torch.testing.assert_close(latent(u)[1][0], true, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pixel_map", [Logit(0.05), InkMap()])
def test_density_over_all_images_sums_to_at_most_one(pixel_map):
    flow = make_flow("single", shape=(1, 1, 1), pixel_map=pixel_map, steps=16)
    everything = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    with torch.no_grad():
        draws = flow.log_prob(everything.repeat(200, 1, 1, 1)).view(200, 256)
    # exp of the mean is at most the mean of exp: the bound must lie below the true mass of one.
    assert draws.mean(0).exp().sum() < 1
    # The logit leaves out mass outside [λ, 1 - λ]; the mean of exp is the mass inside.
    inside = draws.exp().mean(0).sum()
    assert 0.3 < inside < 1.02


@pytest.mark.parametrize("kind", [Logit, InkMap])
@pytest.mark.parametrize("bits", [1, 3, 5])
def test_images_of_fewer_bits_have_a_density_of_their_own(kind, bits):
    flow = make_flow("single", shape=(1, 1, 1), pixel_map=kind(bits=bits), steps=16)
    everything = (torch.arange(2**bits) << (8 - bits)).to(torch.uint8).view(-1, 1, 1, 1)
    flow.fit_statistics(everything)
    assert set(flow.sample(500).flatten().tolist()) <= set(everything.flatten().tolist())
    with torch.no_grad():
        draws = flow.log_prob(everything.repeat(500, 1, 1, 1)).view(500, 2**bits)
        assert draws.mean(0).exp().sum() < 1
        assert 0.3 < draws.exp().mean(0).sum() < 1.05
        # The lower bits of a byte belong to no level.
        torch.manual_seed(1)
        few = flow.log_prob(everything)
        torch.manual_seed(1)
        assert torch.equal(flow.log_prob(everything | (2 ** (8 - bits) - 1)), few)
    with pytest.raises(InputError, match="whole number from 1 to 8"):
        kind(bits=9)


def test_density_over_all_two_level_images_sums_to_at_most_one():
    # Cells of width 128 grey levels: uniform noise over [0, 128) makes two levels of eight bits.
    flow = make_flow("haar", shape=(1, 2, 2), steps=16)
    corners = torch.tensor(list(itertools.product((0, 128), repeat=4))).view(16, 1, 1, 2, 2)
    pixels = (corners + torch.randint(0, 128, (16, 400, 1, 2, 2))).to(torch.uint8)
    with torch.no_grad():
        log_prob = flow.log_prob(pixels.flatten(0, 1)).view(16, 400) + 4 * math.log(128)
    assert log_prob.mean(1).exp().sum() < 1
    assert 0.3 < log_prob.exp().mean(1).sum() < 1.05


@pytest.mark.parametrize("pyramid", PYRAMIDS)
def test_scales_likelihoods_depend_on_disjoint_parameters(pyramid):
    flow = make_flow(pyramid)
    pixels = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8)
    for s, term in enumerate(flow.likelihoods(pixels).scales):
        for other, scale in enumerate(flow.scales):
            grads = torch.autograd.grad(
                term.sum(), list(scale.parameters()), retain_graph=True, allow_unused=True
            )
            reached = [g is not None and g.norm() > 0 for g in grads]
            assert any(reached) == (s == other)


@pytest.mark.parametrize("pyramid", ["unimodular", "haar", "single"])
def test_sampling_inverts_the_latents(pyramid):
    flow = make_flow(pyramid, steps=32)
    flow.fit_statistics(torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8))
    pixels = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    levels, _ = flow.levels(pixels)
    x = None
    for s, (scale, level) in enumerate(zip(flow.scales, levels, strict=True)):
        z, context, _ = scale.standardize(level)
        for block in scale.blocks:
            z = block.flow(z, context, 0.0, 1.0)
        detail = scale.sample(z, None if x is None else flow.pyramid.context(x, s))
        x = detail if x is None else flow.pyramid.merge(x, detail, s)
    back = (256 * flow.pixel_map.inverse(x)[0]).floor().to(torch.uint8)
    assert torch.equal(back, pixels)


def test_samples_have_the_entropy_that_log_prob_assigns():
    """Cross-entropy of a flow with its own samples is its entropy: both estimates agree."""
    flow = make_flow("haar", shape=(1, 2, 2), steps=8)
    samples = flow.sample(4000)
    ours = -flow.log_prob(samples).detach()
    # The same by histogram of one sub-pixel can't be had, so: entropy of the base minus ladj.
    noise = [torch.randn(4000, *scale.shape.detail) for scale in flow.scales]
    log_prob, x = torch.zeros(4000), None
    for s, (scale, z) in enumerate(zip(flow.scales, noise, strict=True)):
        context = None if x is None else flow.pyramid.context(x, s)
        normal = torch.distributions.Normal(0.0, 1.0)
        log_prob = log_prob + normal.log_prob(z).flatten(1).sum(1)
        for block in reversed(scale.blocks):
            z, ladj = block.inverse(z, context)
            log_prob = log_prob - ladj
        x = z if x is None else flow.pyramid.merge(x, z, s)
    u, slope = flow.pixel_map.inverse(x)
    inside = ((u >= 0) & (u < 1)).flatten(1).all(1)  # beyond the margin there is no byte
    true = -(log_prob - slope.detach() - 4 * math.log(256))[inside].detach()
    difference = abs(ours.mean() - true.mean())
    assert difference < 0.1 + 4 * (ours.var() / 4000 + true.var() / 4000).sqrt()


def test_temperature_zero_gives_one_image_and_any_number_can_be_asked():
    flow = make_flow(shape=(3, 4, 4))
    still = flow.sample(3, temperature=0.0)
    assert still.shape == (3, 3, 4, 4)
    assert still.dtype == torch.uint8
    assert torch.equal(still[0], still[1])
    assert not torch.equal(*flow.sample(2))


class Affine(nn.Module):
    """A linear field; `gaussian_factor` makes the one that whitens a conditional Gaussian."""

    def __init__(self, rate, shift, gain):
        super().__init__()
        self.rate, self.shift, self.gain = rate, shift, gain

    def forward(self, t, z, context=None):
        flat = z.flatten(1) @ self.rate.T + self.shift
        if context is not None:
            flat = flat + context.flatten(1) @ self.gain.T
        return flat.view_as(z)


def gaussian_factor(mean, gain, covariance):
    """The field that whitens `detail ~ N(mean + gain context, covariance)` in unit time.

    dz/dt = L (z - offset) with z(1) = whitening (z(0) - mu): the offset is the fixed point.
    """
    values, vectors = torch.linalg.eigh(covariance)
    rate = vectors @ torch.diag(-0.5 * values.log()) @ vectors.T
    # z(1) = e^L z(0) + (e^L - 1) L⁻¹ b must equal e^L (z(0) - mu): b = -L (1 - e^{-L})⁻¹ mu.
    eye = torch.eye(len(covariance))
    lift = -rate @ torch.linalg.inv(eye - torch.matrix_exp(-rate))
    return Affine(rate, lift @ mean, lift @ gain)


def linear_gaussian(pyramid, shape=(1, 4, 4)):
    """A flow that is exactly N(mean, covariance) in the space of the flows, factor by factor."""
    n = 16
    g = torch.Generator().manual_seed(3)
    root = torch.randn(n, n, generator=g, dtype=torch.float64) / 3 + 0.7 * torch.eye(n)
    covariance, mean = root @ root.T, torch.randn(n, generator=g, dtype=torch.float64)
    samples = mean + torch.randn(4000, n, dtype=torch.float64) @ root.T
    basis = torch.eye(n).view(n, *shape)
    # The pyramid is linear: its matrix has the split of every basis image as columns.
    parts = [level.detail.flatten(1).T for level in pyramid.split([basis])]
    fields = []
    for s, part in enumerate(parts):
        mu, cov = part @ mean, part @ covariance @ part.T
        if s == 0:
            fields.append(gaussian_factor(mu, torch.zeros(len(mu), 1), cov))
            continue
        coarse = pyramid.split([basis])[s].context.flatten(1).T
        cross = part @ covariance @ coarse.T
        gain = cross @ torch.linalg.inv(coarse @ covariance @ coarse.T)
        fields.append(gaussian_factor(mu - gain @ coarse @ mean, gain, cov - gain @ cross.T))
    it = iter(fields)
    flow = MultiScaleFlow(
        shape,
        Logit(0.05),
        pyramid,
        lambda c, k: next(it),
        Solver("rk4", step_size=1 / 64),
        divergence=Exact(),
    )
    true = torch.distributions.MultivariateNormal(mean, covariance)
    return flow, samples.view(-1, *shape), true


@pytest.mark.parametrize(
    "pyramid", [HaarPyramid(1), UnimodularPyramid(2), HaarPyramid(2)], ids=["1", "uni", "haar"]
)
def test_every_exact_pyramid_gives_a_gaussian_its_exact_density(pyramid):
    flow, samples, true = linear_gaussian(pyramid)
    log_prob = sum(
        scale.log_prob(level)[0]
        for scale, level in zip(flow.scales, flow.pyramid.split([samples[:20]]), strict=True)
    )
    torch.testing.assert_close(log_prob, true.log_prob(samples[:20].flatten(1)), atol=1e-4, rtol=0)


def test_naive_laplacian_sum_falls_below_the_entropy_and_is_not_called_bpd():
    """Given the coarse image, a full-size Laplacian lies on a flat subset: density unbounded."""
    pyramid = LaplacianPyramid([2, 4])
    _, samples, true = linear_gaussian(HaarPyramid(1))
    images = [pyramid.down(samples, 2), samples]  # noise-free, as in the naive reading
    levels = pyramid.split(images)
    coarse = levels[0].detail.flatten(1)
    detail = levels[1].detail.flatten(1)
    joint = torch.cat([coarse, detail], 1)
    covariance = torch.cov(joint.T)
    k = coarse.shape[1]
    gain = covariance[k:, :k] @ torch.linalg.inv(covariance[:k, :k])
    conditional = covariance[k:, k:] - gain @ covariance[:k, k:]
    residual = detail - detail.mean(0) - (coarse - coarse.mean(0)) @ gain.T

    def naive_nll(width):
        """Best Gaussian per level, no narrower than `width` in any direction."""
        values, vectors = torch.linalg.eigh(conditional)
        values = values.clamp_min(width**2)
        z = residual @ vectors
        fine = 0.5 * (z.square() / values + values.log() + math.log(2 * math.pi)).sum(1)
        first = torch.distributions.MultivariateNormal(coarse.mean(0), covariance[:k, :k])
        return (fine - first.log_prob(coarse)).mean()

    entropy = true.entropy()
    nlls = [naive_nll(10.0**-e) for e in range(1, 6)]
    assert nlls[0] > nlls[-1]
    assert nlls[-1] < entropy - 5  # below what any normalised density can reach
    # Each tenfold narrower width gains the same again for every redundant dimension.
    torch.testing.assert_close(
        nlls[-2] - nlls[-1], torch.tensor(k * math.log(10.0)), atol=0.05, rtol=0
    )
    assert not make_flow("laplacian").exact
    assert make_flow("unimodular").exact


def test_laplacian_images_have_noise_of_their_own():
    """Levels of the bound are dequantized one by one, and told the *noisy* coarser image."""
    flow = make_flow("laplacian")
    pixels = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    levels, _ = flow.levels(pixels)
    coarse = levels[0].detail
    torch.testing.assert_close(levels[1].context, flow.pyramid.context(coarse, 1))
    fine = levels[1].detail + levels[1].context
    u = flow.pixel_map.inverse(fine)[0]
    assert torch.equal((256 * u).floor(), pixels.double())
    grey = 256 * flow.pixel_map.inverse(coarse)[0] - flow.pyramid.images(pixels)[0]
    assert (grey >= 0).all()
    assert (grey < 1 + 1e-9).all()
    finest = 256 * u - pixels
    assert (grey - flow.pyramid.down(finest, 2)).abs().max() > 0.05


def test_midpoint_is_without_noise():
    flow = make_flow()
    pixels = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    first, second = (flow.likelihoods(pixels, dequantization="midpoint").total for _ in "ab")
    assert torch.equal(first, second)
    assert not torch.equal(*(flow.log_prob(pixels) for _ in "ab"))


def test_bits_of_a_uniform_density_are_eight():
    """Logit undone by its own logistic base would be uniform; here: the pixel term alone."""
    flow = make_flow("single", pixel_map=Logit(0.05))
    pixels = torch.randint(0, 256, (6, 1, 4, 4), dtype=torch.uint8)
    levels, ladj = flow.levels(pixels)
    x = levels[0].detail
    # p(x) of u ~ U[0, 1) pushed through the logit is σ'(x) / (1 - 2λ).
    uniform = (torch.sigmoid(x) * torch.sigmoid(-x) / 0.9).log().flatten(1).sum(1)
    torch.testing.assert_close(bits_per_dim(uniform + ladj, 16), torch.full((6,), 8.0))


@pytest.mark.parametrize("pixel_map", [Logit(0.05), InkMap(bits=5)], ids=["logit", "ink"])
@pytest.mark.parametrize("pyramid", ["unimodular", "haar"])
def test_samples_come_with_the_log_density_of_their_draw(pyramid, pixel_map, monkeypatch):
    # A gentle field: far in its tails, an InkMap rounds.
    field = lambda c, k: randomize(ConcatField(c, k, width=8, depth=3), std=0.1)
    flow = make_flow(pyramid, pixel_map=pixel_map, field=field, n_blocks=2)
    flow.fit_statistics(torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8))
    drawn, bits, solver = [], pixel_map.bits, Solver("dopri5", 1e-8, 1e-8)
    keep = lambda u, bits: drawn.append(u) or to_bytes(u, bits)
    monkeypatch.setattr("msflow.flow.to_bytes", keep)
    pixels, log_prob = flow.sample_with_log_prob(3, solver)
    v = drawn[0] * 2**bits
    levels = v.floor().clamp(0, 2**bits - 1)
    assert torch.equal(pixels, levels.byte() << (8 - bits))
    # With this noise, `log_prob` evaluates the same point.
    monkeypatch.setattr(torch, "rand", lambda *args, **options: v - levels)
    torch.testing.assert_close(flow.log_prob(pixels, solver), log_prob, atol=1e-5, rtol=0)


def test_samples_with_and_without_log_density_are_equal():
    flow = make_flow()
    torch.manual_seed(1)
    pixels, log_prob = flow.sample_with_log_prob(3)
    torch.manual_seed(1)
    assert torch.equal(pixels, flow.sample(3))
    assert log_prob.shape == (3,)
    with pytest.raises(InputError, match="got n 0"):
        flow.sample_with_log_prob(0)
    with pytest.raises(InputError, match="LaplacianPyramid, which gives a bound"):
        make_flow("laplacian").sample_with_log_prob(3)
