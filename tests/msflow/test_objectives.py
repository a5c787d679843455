"""Objectives: what they minimise, and that scales train alike jointly and one by one."""

import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.flows.pixel import bits_per_dim
from common.flows.pyramid import Level
from common.nn.fields import ResidualField
from common.ode.divergence import Hutchinson
from common.ode.regularize import JacobianNorm, KineticEnergy
from msflow.objectives import FlowMatching, Likelihood
from tests.msflow import flows

PIXELS = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)
OBJECTIVES = {
    "likelihood": lambda: Likelihood([KineticEnergy(0.01), JacobianNorm(0.01)], jitter=0.0),
    "flow matching": lambda: FlowMatching(-0.8, 1.2, 0.3),
}


def gradients(objective, flow, scales):
    flow.zero_grad()
    total = 0.0
    for group in scales:
        # The same noise for a scale whatever the others do: dequantization comes first, then each.
        torch.manual_seed(1)
        loss = objective(flow, PIXELS, group).loss
        loss.backward()
        total += float(loss.detach())
    return {name: p.grad.clone() for name, p in flow.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("pyramid", ["unimodular", "laplacian"])
def test_joint_and_scale_by_scale_training_have_the_same_gradients(pyramid, double):
    """With the exact trace and midpoint noise fixed by the seed, the losses just add."""
    flow, objective = flows.make_flow(pyramid), Likelihood(jitter=0.0)
    joint = gradients(objective, flow, [[0, 1]])
    alone = gradients(objective, flow, [[0], [1]])
    assert joint.keys() == alone.keys()
    assert len(joint) == len(list(flow.parameters()))
    for name in joint:
        # D_s of eq. 6.8: the coarse image has 2 x 2 pixels, the fine one 4 x 4.
        share = 4 / 16 if name.startswith("scales.0.") else 1
        torch.testing.assert_close(joint[name], share * alone[name])


@pytest.mark.parametrize("pyramid", ["unimodular", "laplacian"])
def test_a_scale_that_trains_alone_has_the_bits_of_its_own_image(pyramid, double):
    flow, energy = flows.make_flow(pyramid), KineticEnergy(0.3)
    for scale, dims in enumerate((4, 16)):
        torch.manual_seed(1)
        loss = Likelihood([energy], jitter=0.0)(flow, PIXELS, [scale]).loss
        torch.manual_seed(1)
        levels, _ = flow.levels(PIXELS)
        log_prob, (integral,) = flow.scales[scale].log_prob(levels[scale], None, [energy])
        true = -log_prob.mean() / (dims * math.log(2)) + 0.3 * integral.mean()
        torch.testing.assert_close(loss, true)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_frozen_scales_get_no_gradient(objective):
    flow = flows.make_flow("unimodular")
    reached = gradients(OBJECTIVES[objective](), flow, [[1]])
    assert reached
    assert all(name.startswith("scales.1.") for name in reached)


def test_likelihood_is_the_models_bits_plus_weighted_integrals(double):
    flow = flows.make_flow("unimodular")
    torch.manual_seed(1)
    bits = bits_per_dim(flow.log_prob(PIXELS), 16).mean()
    torch.manual_seed(1)
    loss, terms = Likelihood([KineticEnergy(0.5)], jitter=0.0)(flow, PIXELS, [0, 1])
    energy = terms["kinetic_energy_scale_0"] + terms["kinetic_energy_scale_1"]
    torch.testing.assert_close(terms["bpd"], bits)
    torch.testing.assert_close(loss, bits + 0.5 * energy)
    assert energy > 0


def test_a_laplacians_bits_have_a_name_of_their_own():
    _, terms = Likelihood()(flows.make_flow("laplacian"), PIXELS, [0, 1])
    assert "pyramid_bpd" in terms
    assert "bpd" not in terms


def test_steer_draws_an_end_time_in_training_only(monkeypatch):
    flow, ends = flows.make_flow("single", steps=2, divergence=Hutchinson()), []
    block = flow.scales[0].blocks[0]
    transport = block.transport
    monkeypatch.setattr(block, "transport", lambda *a: (ends.append(a[3]), transport(*a))[1])
    for _ in range(20):
        Likelihood(steer=0.5)(flow, PIXELS, [0])
    assert min(ends) < 0.8
    assert max(ends) > 1.2
    assert all(0.5 <= end <= 1.5 for end in ends)
    ends.clear()
    flow.log_prob(PIXELS)
    assert ends == [1.0]
    with pytest.raises(InputError, match="steer"):
        Likelihood(steer=1.0)


def test_each_training_step_has_its_own_step_size(monkeypatch):
    flow, solvers = flows.make_flow("single", steps=2, divergence=Hutchinson()), []
    block = flow.scales[0].blocks[0]
    transport = block.transport
    monkeypatch.setattr(block, "transport", lambda *a: (solvers.append(a[4]), transport(*a))[1])
    for _ in range(30):
        Likelihood(jitter=0.5)(flow, PIXELS, [0])
    steps = [solver.step_size for solver in solvers]
    assert 0.25 <= min(steps) < 0.3
    assert 0.45 < max(steps) <= 0.5
    with pytest.raises(InputError, match="jitter"):
        Likelihood(jitter=1.0)


class Known(nn.Module):
    """E[ε - x | z] for x ~ N(0, 1): what flow matching must find for standardised noise."""

    def __init__(self, parts=1, part=0):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.parts, self.part = parts, part

    def forward(self, t, z, context=None):
        t = (self.part + t.reshape(-1, 1, 1, 1)) / self.parts
        return self.gain * (2 * t - 1) / ((1 - t) ** 2 + t**2) * z / self.parts


@pytest.mark.parametrize("n_blocks", [1, 3])
def test_flow_matching_is_stationary_at_the_known_field_of_gaussian_data(n_blocks, double):
    made = iter(Known(n_blocks, k) for k in range(n_blocks))
    flow = flows.make_flow("single", field=lambda c, k: next(made), n_blocks=n_blocks)
    batch = torch.zeros(512, 1, 4, 4, dtype=torch.uint8)
    flow.levels = lambda pixels: (
        [Level(torch.randn(len(pixels), 1, 4, 4), None)],
        torch.zeros(len(pixels)),
    )
    total = []
    for _ in range(60):
        flow.zero_grad()
        FlowMatching()(flow, batch, [0]).loss.backward()
        total += [p.grad.item() for p in flow.parameters() if p.grad is not None]
    total = torch.tensor(total)
    assert abs(total.mean()) < 4 * total.std() / len(total) ** 0.5 + 1e-3
    # And the ODE of that field carries the data to the noise: its likelihood is the entropy.
    x = torch.randn(400, 1, 4, 4)
    log_prob = flow.scales[0].log_prob(Level(x, None))[0]
    true = torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_prob, true, atol=2e-2, rtol=0)


def gaussian_flow(n_blocks, n, monkeypatch):
    """A flow of one scale whose levels are standard normal, and a batch for it."""
    field = lambda c, k: ResidualField(c, k, width=4, blocks=1)
    flow = flows.make_flow("single", field=field, n_blocks=n_blocks, steps=16)
    levels = [Level(torch.randn(n, 1, 4, 4), None)]
    monkeypatch.setattr(flow, "levels", lambda pixels: (levels, torch.zeros(n)))
    return flow, torch.zeros(n, 1, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 8])
def test_an_untrained_residual_field_is_optimal_for_gaussian_data(n_blocks, double, monkeypatch):
    # The least error is the variance of ε - x given z(t): ∫ 1 / (t² + (1 - t)²) dt = π / 2.
    flow, batch = gaussian_flow(n_blocks, 2000, monkeypatch)
    with torch.no_grad():
        loss = FlowMatching()(flow, batch, [0]).loss
    assert float(loss) == pytest.approx(math.pi / 2, rel=0.04)


def test_an_untrained_residual_field_of_several_blocks_is_the_density_of_gaussian_data(double):
    field = lambda c, k: ResidualField(c, k, width=4, blocks=1)
    flow = flows.make_flow("single", field=field, n_blocks=3)
    x = torch.randn(5, 1, 4, 4)
    true = torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(flow.scales[0].log_prob(Level(x, None))[0], true, atol=2e-3, rtol=0)


@pytest.mark.parametrize("n_blocks", [1, 4])
def test_times_of_all_blocks_are_those_of_the_whole_path(n_blocks, monkeypatch):
    flow, batch = gaussian_flow(n_blocks, 4000, monkeypatch)
    asked = []
    for block in flow.scales[0].blocks:
        field = block.field
        monkeypatch.setattr(
            block,
            "velocity",
            lambda t, z, c, field=field: (asked.append(field.path_time(t)), 0 * z)[1],
        )
    FlowMatching(-0.8, 1.2, 0.0)(flow, batch, [0])
    times = torch.cat(asked).logit()
    assert len(times) == 4000
    assert float(times.mean()) == pytest.approx(-0.8, abs=0.01)
    assert float(times.std()) == pytest.approx(1.2, abs=0.02)


def test_times_are_stratified_and_lean_towards_the_data_where_asked():
    x = torch.zeros(1000, 1, 1, 1)
    uniform = FlowMatching()._times(x).sort().values
    torch.testing.assert_close(uniform, (torch.arange(1000) + 0.5) / 1000, atol=1e-3, rtol=0)
    skewed = FlowMatching(-0.8, 1.2, 0.0)._times(x)
    assert float(skewed.median()) == pytest.approx(1 / (1 + math.exp(0.8)), abs=0.01)
    with pytest.raises(InputError, match="uniform"):
        FlowMatching(uniform=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_four_images_are_overfitted(objective):
    flow = flows.make_flow(
        "unimodular",
        field=lambda c, k: ResidualField(c, k, width=16, blocks=1),
        divergence=Hutchinson(),
    )
    flow.fit_statistics(PIXELS.repeat(20, 1, 1, 1))
    with torch.no_grad():
        before = torch.stack([bits_per_dim(flow.log_prob(PIXELS), 16) for _ in range(20)]).mean()
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        OBJECTIVES[objective]()(flow, PIXELS.repeat(8, 1, 1, 1), [0, 1]).loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = torch.stack([bits_per_dim(flow.log_prob(PIXELS), 16) for _ in range(20)]).mean()
    assert after < before - 2
