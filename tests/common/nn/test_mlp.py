"""Initial weights of the vector field by a multilayer perceptron."""

import math

import pytest
import torch

from common.nn.mlp import MLPField


def test_xavier_weights_fill_their_range():
    first, _, last = MLPField(300, width=100, layers=2, gain=2**0.5, init="xavier").net
    for layer, units in ((first, 400), (last, 400)):
        bound = 2**0.5 * math.sqrt(6 / units)
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.03)
        assert not layer.bias.any()


def test_orthogonal_weights_keep_lengths_up_to_their_gain():
    (layer,) = MLPField(50, layers=1, gain=1.2).net
    z = torch.randn(4, 50)
    torch.testing.assert_close(layer(z).norm(dim=1), 1.2 * z.norm(dim=1))
