"""Variants of the game differ from it by what their names say."""

import pytest
import torch

from mimic import MiMIcRegularizer
from mimic.critic.critics import MLPCritic
from mimic.critic.game import Game
from mimic.features.rows import Rows
from mimic.studies.games import GAMES, JointRouteGame, MeanCriticGame, SimultaneousGame


def begun(kind, estimator="js"):
    return kind(range(3), critic=MLPCritic, estimator=estimator)


def dependent(n):
    x = torch.randn(n, 1)
    return x + 0.5 * torch.randn(n, 3)


@pytest.mark.parametrize("kind", [Game, JointRouteGame])
def test_routes_of_the_gradient(kind):
    """Through the joint rows alone the gradient is that of `E[T]`."""
    game, z = begun(kind, "dv"), dependent(64).requires_grad_()
    game.estimate(Rows(z), torch.Generator().manual_seed(0)).backward()
    t = z.detach().clone().requires_grad_()
    game.critics[0](t).mean().backward()
    assert torch.allclose(z.grad, t.grad, atol=1e-7) == (kind is JointRouteGame)


def test_the_simultaneous_step_is_the_step_on_the_same_rows():
    """One pass gives the critic the step that a pass of its own would."""
    one, two, z = begun(SimultaneousGame), begun(Game), dependent(64)
    estimate = one.play(Rows(z.clone().requires_grad_()), torch.Generator().manual_seed(1))
    before = two.estimate(Rows(z), torch.Generator().manual_seed(1))
    two.step(Rows(z), torch.Generator().manual_seed(1))
    assert estimate.item() == pytest.approx(before.item(), abs=1e-6)
    assert one.ranking == two.ranking
    for a, b in zip(one.critics.parameters(), two.critics.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_mean_critic_follows(monkeypatch):
    monkeypatch.setattr(MeanCriticGame, "decay", 0.5)
    game = begun(MeanCriticGame)
    start = game.critics[0].layers[0].weight.detach().clone()
    game.step(Rows(dependent(64)))
    half = 0.5 * start + 0.5 * game.critics[0].layers[0].weight
    assert torch.allclose(game.average[0].layers[0].weight, half)


@pytest.mark.parametrize("kind", GAMES.values())
def test_variants_give_a_penalty_with_a_gradient_and_go_on_where_they_were(kind):
    one, two = MiMIcRegularizer(game=kind), MiMIcRegularizer(game=kind)
    z = dependent(16).requires_grad_()
    for _ in range(3):
        penalty = one(z)
    penalty.backward()
    assert penalty.isfinite()
    assert z.grad.abs().sum() > 0
    two.load_state_dict(one.state_dict())
    assert all(torch.equal(one(z), two(z)) for _ in range(3))
