"""Small bijections of images `[b 2 2 2]` for the laws."""

import torch
from torch import nn

from common.flows.cnf import CNF
from common.flows.pixel import InkMap
from common.flows.standardize import Standardize
from common.nn.fields import ConcatField
from common.ode.divergence import Exact
from common.ode.solve import Solver

SHAPE = (2, 2, 2)


def solver(**arguments):
    return Solver("rk4", step_size=1 / 16, **arguments)


def random_field(context=0):
    field = ConcatField(2, context, width=8, depth=3)
    for p in field.parameters():
        nn.init.normal_(p, std=0.3)
    return field


def cnf(context=0, **arguments):
    return CNF(random_field(context), solver(**arguments), Exact())


def ink_map():
    layer = InkMap()
    layer.fit(torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8))
    return layer


def half_ground(*shape):
    """Half of the sub-pixels in the ground's cell of the unit interval, the others anywhere."""
    x = torch.rand(*shape)
    return torch.where(torch.rand(*shape) < 0.5, x / 256, x)


def standardize():
    layer = Standardize(SHAPE[0])
    layer.fit(3 * torch.randn(100, *SHAPE) + 1)
    return layer
