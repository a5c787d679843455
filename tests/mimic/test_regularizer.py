"""From any feature to a penalty, in a plain loop."""

import copy
import inspect
import math

import pytest
import torch
from torch import nn

from common.errors import InputError
from mimic import MiMIcRegularizer, gaussian_total_correlation
from mimic.critic.critics import HybridCritic, MLPCritic
from mimic.features.rows import Reduction, Rows, hide_channels, standardize


def feature(*shape):
    torch.manual_seed(1)
    return torch.randn(shape)


# From features to rows ----------------------------------------------------------------------


def test_pool_is_the_mean_over_positions():
    z = feature(8, 3, 4, 5)
    assert torch.allclose(Reduction("pool")(z).z, z.mean((2, 3)))


def test_locations_are_rows_image_by_image():
    z = feature(4, 3, 2, 2)
    rows = Reduction("per_location", rows=1000, n_classes=9)(z, torch.tensor([5, 6, 7, 8]))
    assert rows.positions == 4
    assert torch.equal(rows.z[4:8], z[1].flatten(1).T)
    assert rows.labels.tolist() == [5] * 4 + [6] * 4 + [7] * 4 + [8] * 4


def test_locations_are_as_many_as_asked_for():
    rows = Reduction("per_location", rows=64)(feature(8, 3, 10, 10))
    assert (rows.positions, tuple(rows.z.shape)) == (8, (64, 3))


def test_maps_stay_whole():
    z = feature(8, 3, 4, 5)
    assert torch.equal(Reduction("map")(z).z, z)


def test_channels_of_tokens_are_last():
    z = feature(8, 5, 3)
    assert torch.allclose(Reduction("pool")(z).z, z.mean(1))
    assert torch.allclose(Reduction("pool", channel_dim=1)(z).z, z.mean(2))
    assert Reduction("per_location")(z).z.shape == (40, 3)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((8,), {}, "has no channels"),
        ((8, 1), {}, "1 channel"),
        ((8, 3), {"channel_dim": 2}, "got channel_dim 2"),
        ((8, 3), {"channel_dim": 0}, "the batch is axis 0"),
        ((8, 3), {"subset": 4}, "got subset 4 of 3"),
    ],
)
def test_unfit_features_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        Reduction(**options)(feature(*shape))


def test_labels_must_be_one_a_sample():
    with pytest.raises(ValueError, match="one class each"):
        MiMIcRegularizer(n_classes=3)(feature(8, 3), torch.zeros(8, 2, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(50, 3), (20, 3, 4, 4)])
def test_standardized_channels(shape):
    z, dead = standardize(Rows(5 * feature(*shape) + 3))
    axes = [i for i in range(len(shape)) if i != 1]
    assert torch.allclose(z.z.mean(axes), torch.zeros(3), atol=1e-5)
    assert torch.allclose(z.z.square().mean(axes), torch.ones(3), atol=1e-4)
    assert not dead.any()


def test_standardized_within_classes_means_vanish_in_each():
    labels = torch.arange(5).repeat(10)
    z = feature(50, 3) + 7 * labels[:, None]
    rows, _ = standardize(Rows(z, labels), 5)
    means = torch.stack([rows.z[labels == y].mean(0) for y in range(5)])
    assert torch.allclose(means, torch.zeros(5, 3), atol=1e-5)


def test_dead_channels_are_zero_and_named():
    z = feature(50, 3)
    z[:, 1] = 1e6
    rows, dead = standardize(Rows(z.requires_grad_()))
    assert dead.tolist() == [False, True, False]
    rows.z.square().sum().backward()
    assert rows.z[:, 1].abs().max() == 0
    assert z.grad.isfinite().all()


def test_hidden_channels_are_zero():
    rows = hide_channels(Rows(feature(6, 10)), 4, torch.Generator().manual_seed(0))
    assert (rows.z.abs().sum(0) > 0).sum() == 4


def test_noise_has_its_deviation():
    z = Rows(torch.zeros(100_000, 2)).noisy(0.3).z
    assert z.std(0).tolist() == pytest.approx([0.3, 0.3], rel=0.02)


# The penalty --------------------------------------------------------------------------------

REDUCTIONS = [
    ({"reduce": "pool"}, (16, 4, 3, 3)),
    ({"reduce": "per_location", "rows": 64}, (16, 4, 3, 3)),
    ({"reduce": "map"}, (16, 4, 3, 3)),
    ({"reduce": "map"}, (16, 4, 7)),
    ({"reduce": "per_location"}, (16, 5, 4)),
    ({"subset": 2}, (16, 4)),
    ({"group": 2}, (16, 4)),
    ({"decomposition": "line"}, (16, 4)),
    ({"decomposition": "tree"}, (16, 4)),
    ({"n_critic": 3}, (16, 4)),
    ({"penalty": "covariance"}, (16, 4, 3, 3)),
    ({"penalty": "hsic", "reduce": "per_location", "rows": 64}, (16, 4, 3, 3)),
]


@pytest.mark.parametrize(("options", "shape"), REDUCTIONS, ids=str)
def test_any_feature_gets_a_finite_penalty_with_a_gradient(options, shape):
    z = feature(*shape).requires_grad_()
    regularizer = MiMIcRegularizer(**options)
    for _ in range(3):
        penalty = regularizer(z)
    penalty.backward()
    assert penalty.shape == ()
    assert penalty.isfinite()
    assert z.grad.abs().sum() > 0


def test_the_critic_is_nobody_elses():
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.regularizer = MiMIcRegularizer()

    holder = Holder()
    holder.regularizer(feature(8, 3))
    assert not list(holder.parameters())


@pytest.mark.parametrize(
    "estimator", ["smile", "js", "dv", "mine", "nwj", "infonce", "density_ratio"]
)
def test_dependence_is_undone(estimator):
    """A linear map is learned that makes two correlated Gaussians independent."""
    map_ = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        map_.weight.copy_(torch.eye(2))
    regularizer = MiMIcRegularizer(estimator=estimator)
    descent = torch.optim.Adam(map_.parameters(), lr=0.01)
    mixing = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    z = torch.randn(4000, 2) @ mixing.T
    before = gaussian_total_correlation(z)
    for _ in range(150):
        loss = regularizer(map_(torch.randn(128, 2) @ mixing.T))
        descent.zero_grad()
        loss.backward()
        descent.step()
    with torch.no_grad():
        assert gaussian_total_correlation(map_(z)) < 0.1 * before


def test_within_classes_channels_may_tell_the_class():
    """Independent given the class: nothing to tell apart, though dependent over classes."""
    generator = torch.Generator().manual_seed(0)
    accuracy = {}
    for n_classes in (None, 4):
        regularizer = MiMIcRegularizer(n_classes=n_classes)
        seen = []
        for _ in range(150):
            labels = torch.randint(4, (256,), generator=generator)
            z = 2 * labels[:, None] + torch.randn(256, 3, generator=generator)
            regularizer.critic_step(z, labels)
            seen.append(float(regularizer.critic_ranking))
        accuracy[n_classes] = sum(seen[-50:]) / 50
    assert accuracy[None] > 0.75
    assert accuracy[4] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("channels", [4, 150])
def test_state_goes_on_where_it_was(channels):
    one, two = MiMIcRegularizer(seed=5), MiMIcRegularizer(seed=5)
    z = feature(32, channels)
    for _ in range(5):
        one(z)
    two.load_state_dict(one.state_dict())
    assert two.state_dict()["game"] is not None
    assert all(torch.equal(one(z), two(z)) for _ in range(3))


def test_steps_depend_on_seed_and_call_alone():
    z = feature(32, 4)
    once = [MiMIcRegularizer(seed=s)(z).item() for s in (0, 0, 1)]
    assert once[0] == once[1] != once[2]


def test_channels_that_need_one_critic_cant_change():
    regularizer = MiMIcRegularizer()
    regularizer(feature(8, 3))
    with pytest.raises(ValueError, match="3 channels before and 4 now"):
        regularizer(feature(8, 4))


@pytest.mark.parametrize("critic", [MLPCritic, HybridCritic])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_leave_the_critic_as_it_was(critic, bad):
    """As where half precision overflows, and the step is skipped."""
    regularizer, z = MiMIcRegularizer(critic=critic), feature(32, 4)
    regularizer(z)
    before = copy.deepcopy(regularizer.state_dict()["game"])
    broken = z.clone()
    broken[3, 1] = bad
    assert regularizer(broken).isnan()
    regularizer.critic_step(broken)
    after = regularizer.state_dict()["game"]
    assert all(torch.equal(before[k], after[k]) for k in before if k != "_extra_state")
    assert regularizer(z).isfinite()


def test_a_critic_trains_where_gradients_are_off():
    regularizer, z = MiMIcRegularizer(), feature(32, 4)
    with torch.no_grad():
        regularizer.critic_step(z)
    assert regularizer.game.critics[0].layers[0].weight.grad.abs().sum() > 0


def test_accelerators_random_states_are_left_alone(monkeypatch):
    """torch.manual_seed would seed them all."""
    z = feature(32, 4)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeded everything"))
    MiMIcRegularizer()(z)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("penalty", "decov"),
        ("reduce", "pol"),
        ("estimator", "best"),
        ("decomposition", "lin"),
    ],
)
def test_words_that_say_nothing_are_refused(option, value):
    # Without the check of types that tests run under.
    with pytest.raises(InputError, match=f"got '{value}'; give one of"):
        inspect.unwrap(MiMIcRegularizer.__init__)(
            object.__new__(MiMIcRegularizer), **{option: value}
        )
