"""The LightningModule: what a failed solve and a wrong schedule lead to."""

import pytest
import torch

from common.errors import InputError
from common.ode.evaluations import SolveError
from msflow.module import MultiScaleFlowModule
from msflow.objectives import FlowMatching, Objective
from tests.msflow import flows

PIXELS = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)


class Failing(Objective):
    solves = False

    def __call__(self, flow, pixels, scales, solver=None):
        raise SolveError("solve failed at t=0.5")


def test_a_failed_solve_makes_every_gradient_nan_so_that_the_step_is_skipped():
    module = MultiScaleFlowModule(flows.make_flow(), Failing())
    with pytest.warns(UserWarning, match=r"left out: solve failed at t=0\.5"):
        module.training_step(PIXELS, 0).backward()
    assert all(p.grad is not None and p.grad.isnan().all() for p in module.parameters())


def test_scales_train_in_turn_and_the_finest_to_the_end():
    module = MultiScaleFlowModule(flows.make_flow(), FlowMatching(), epochs_per_scale=[2, 1])
    epochs = []
    for epoch in range(5):
        type(module).current_epoch = property(lambda self, epoch=epoch: epoch)
        epochs.append(module.active_scales)
    del type(module).current_epoch
    assert epochs == [[0], [0], [1], [1], [1]]
    with pytest.raises(InputError, match="3 entries, but the flow has 2 scales"):
        MultiScaleFlowModule(flows.make_flow(), FlowMatching(), epochs_per_scale=[1, 1, 1])


def test_bits_per_dimension_of_a_batch_are_those_of_its_images(double):
    module = MultiScaleFlowModule(flows.make_flow(), FlowMatching())
    bits = module._bits(PIXELS, "midpoint")
    alone = torch.cat([module._bits(PIXELS[i : i + 1], "midpoint")["bpd"] for i in range(4)])
    torch.testing.assert_close(bits["bpd"], alone)
    parts = sum(value for name, value in bits.items() if name != "bpd")
    torch.testing.assert_close(bits["bpd"], parts)
