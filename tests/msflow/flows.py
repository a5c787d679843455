"""Small flows for the tests."""

import torch
from torch import nn

from common.flows.pixel import Logit
from common.flows.pyramid import HaarPyramid, LaplacianPyramid, UnimodularPyramid
from common.nn.fields import ConcatField
from common.ode.divergence import Exact
from common.ode.solve import Solver
from msflow.flow import MultiScaleFlow

PYRAMIDS = {
    "unimodular": lambda: UnimodularPyramid(2),
    "haar": lambda: HaarPyramid(2),
    "laplacian": lambda: LaplacianPyramid([2, 4]),
    "single": lambda: HaarPyramid(1),
}


def randomize(module, std=0.3):
    for p in module.parameters():
        nn.init.normal_(p, std=std)
    return module


def make_flow(
    pyramid="unimodular", shape=(1, 4, 4), pixel_map=None, field=None, steps=8, seed=0, **arguments
):
    torch.manual_seed(seed)
    arguments = {"divergence": Exact(), **arguments}
    return MultiScaleFlow(
        shape,
        pixel_map or Logit(0.05),
        PYRAMIDS[pyramid]() if isinstance(pyramid, str) else pyramid,
        field or (lambda c, k: randomize(ConcatField(c, k, width=8, depth=3))),
        Solver("rk4", step_size=1 / steps),
        **arguments,
    )
