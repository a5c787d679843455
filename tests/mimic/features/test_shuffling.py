"""Shuffled rows are draws of the product of marginals, and of nothing else."""

import pytest
import torch
from scipy.stats import chisquare

from mimic.features.shuffling import shuffle_channels


def tagged(n, c, positions=1):
    """Channels whose value says which image, position and channel they are from."""
    rows = torch.arange(n)
    return torch.stack([rows // positions, rows % positions], 1)[:, None].expand(n, c, 2).float()


@pytest.mark.parametrize(("n", "c"), [(16, 5), (8, 8), (64, 33)])
def test_no_row_holds_two_channels_of_one_sample(n, c):
    source = shuffle_channels(tagged(n, c))[..., 0]
    assert all(len(row.unique()) == c for row in source)


@pytest.mark.parametrize("shape", [(), (3,), (4, 4)])
def test_every_channel_keeps_its_own_samples(shape):
    z = torch.randn(12, 5, *shape)
    shuffled = shuffle_channels(z)
    for channel in range(5):
        mine = {tuple(x.flatten().tolist()) for x in z[:, channel]}
        assert {tuple(x.flatten().tolist()) for x in shuffled[:, channel]} == mine


def test_more_channels_than_samples_share_as_evenly_as_can_be():
    source = shuffle_channels(tagged(4, 10))[..., 0]
    for row in source:
        counts = row.unique(return_counts=True)[1]
        assert counts.max() == 3
        assert counts.min() == 2


def test_pairs_of_sources_are_uniform():
    """Of two channels, every ordered pair of different samples comes equally often."""
    counts = torch.zeros(5, 5)
    for _ in range(2000):
        a, b = shuffle_channels(tagged(5, 2))[..., 0].long().T
        counts.index_put_((a, b), torch.ones(5), accumulate=True)
    assert counts.diagonal().sum() == 0
    others = counts[~torch.eye(5, dtype=torch.bool)]
    # Rows of one shuffle move together, so the counts spread by more than independent ones.
    assert chisquare(others.numpy() / 5).pvalue > 0.01


def test_within_classes_rows_keep_their_class():
    labels = torch.randint(3, (60,))
    source = shuffle_channels(tagged(60, 6), labels)[..., 0].long()
    assert (labels[source] == labels[:, None]).all()


def test_within_small_classes_centred_channels_are_uncorrelated(double):
    """Different samples of a few centred ones would correlate by -1 / (m - 1)."""
    labels = torch.arange(8).repeat_interleave(4)
    total = torch.zeros(())
    for _ in range(1500):
        x = torch.randn(8, 4)
        x = (x - x.mean(1, keepdim=True)).flatten()
        z = shuffle_channels(torch.stack([x, x], 1), labels)
        total += (z[:, 0] * z[:, 1]).mean() / x.square().mean() / 1500
    assert total.abs().item() < 0.02


def test_positions_come_from_different_images():
    z = tagged(6 * 4, 5, positions=4)
    image, place = shuffle_channels(z, positions=4).unbind(-1)
    assert all(len(row.unique()) == 5 for row in image)
    for channel in range(5):
        pairs = {
            (i, p)
            for i, p in zip(image[:, channel].tolist(), place[:, channel].tolist(), strict=True)
        }
        assert len(pairs) == 24
    drawn = [shuffle_channels(z, positions=4)[0, :, 1] for _ in range(50)]
    assert any(len(places.unique()) > 1 for places in drawn)


def test_blocks_move_together():
    blocks = [0, 0, 1, 2, 1]
    source = shuffle_channels(tagged(9, 5), blocks=blocks)[..., 0]
    assert torch.equal(source[:, 0], source[:, 1])
    assert torch.equal(source[:, 2], source[:, 4])
    assert (source[:, 0] != source[:, 3]).all()


def test_gradients_find_the_row_they_came_from():
    z = torch.randn(7, 4, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    shuffle_channels(z, generator=generator).sum().backward()
    assert torch.equal(z.grad, torch.ones(7, 4))


def test_a_generator_fixes_it_and_leaves_the_global_state():
    z, state = torch.randn(9, 3), torch.get_rng_state()
    once, again = (shuffle_channels(z, generator=torch.Generator().manual_seed(4)) for _ in "ab")
    assert torch.equal(once, again)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("n", "positions"), [(1, 1), (4, 4), (7, 2)])
def test_too_few_samples_are_refused(n, positions):
    with pytest.raises(ValueError, match="at least 2 whole samples"):
        shuffle_channels(torch.randn(n, 3), positions=positions)
