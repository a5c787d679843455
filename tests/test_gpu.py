"""What must hold on a GPU as well: the solver, both objectives, SRVP's step, half precision.

Run by `tests/gpu.sh`; MiMIc's own test stands in tests/mimic/test_plugin.py.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch

from common.nn.fields import ConcatField
from common.ode.divergence import Exact
from common.ode.solve import Solver
from msflow.objectives import FlowMatching, Likelihood
from tests.msflow.flows import make_flow, randomize
from tests.test_configs import ROOT, arguments
from tests.video_ode.models import every, srvp, video

pytestmark = pytest.mark.gpu
PIXELS = torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8)


def on_gpu(module):
    return module.to("cuda")


@pytest.mark.parametrize("gradient", ["direct", "checkpoint", "adjoint"])
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_solves_and_their_gradients_are_those_of_the_cpu(method, gradient):
    settings = {"step_size": 0.125} if method == "rk4" else {"rtol": 1e-6, "atol": 1e-6}
    solver, found = Solver(method, gradient=gradient, **settings), []
    a, y0 = torch.randn(4, 4), torch.randn(3, 4)
    for device in ("cpu", "cuda"):
        weight = a.to(device).requires_grad_()
        f = lambda t, y, weight=weight: ((y[0] @ weight.T).tanh(),)
        (path,), _ = solver.path(f, (y0.to(device),), torch.tensor([0.0, 0.3, 1.0]), [weight])
        path.square().sum().backward()
        found.append((path.detach().cpu(), weight.grad.cpu()))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_log_densities_are_those_of_the_cpu():
    flow = make_flow(divergence=Exact())
    flow.fit_statistics(PIXELS)
    on_cpu = flow.likelihoods(PIXELS, dequantization="midpoint").total
    on_cuda = on_gpu(flow).likelihoods(PIXELS.cuda(), dequantization="midpoint").total
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("objective", [FlowMatching, Likelihood])
def test_objectives_train_a_flow(objective):
    flow = on_gpu(make_flow(field=lambda c, k: randomize(ConcatField(c, k, width=8, depth=3))))
    flow.fit_statistics(PIXELS.cuda())
    optimizer, losses = torch.optim.Adam(flow.parameters(), 1e-2), []
    for _ in range(60):
        optimizer.zero_grad()
        loss = objective()(flow, PIXELS.cuda(), [0, 1]).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < sum(losses[:10])


def test_the_loss_of_srvp_is_that_of_the_cpu(monkeypatch):
    from torch.distributions import Normal

    for name in ("sample", "rsample"):
        monkeypatch.setattr(Normal, name, lambda self, shape=(): self.loc)
    model, x, (times, mask) = srvp().eval(), video(6), every(6)
    losses = []
    for device in ("cpu", "cuda"):
        model.to(device)
        content = partial(model.content_of, x.to(device))
        monkeypatch.setattr(model, "_random_content", lambda *_, content=content: content())
        loss, _ = model.loss(x.to(device), times.to(device), mask.to(device), 3, 1.0)
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "config",
    [
        "msflow/configs/digits.yaml",
        "video_ode/configs/latent_ode/latent_ode_digits.yaml",
        "video_ode/configs/srvp/srvp_digits.yaml",
        "mimic/configs/digits.yaml",
    ],
)
def test_configurations_train_test_and_resume(config, precision, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    given = arguments([Path(config)], tmp_path)
    given[given.index("--trainer.accelerator") + 1] = "gpu"
    given[given.index("--trainer.precision") + 1] = precision
    for stage in ("train", "val", "test"):
        given += [f"--trainer.limit_{stage}_batches", "3"]
    given += ["--trainer.enable_progress_bar", "false"]
    if "msflow" in config:  # Lightning clips no gradients of a fused optimiser in mixed precision
        given += ["--model.optimizer.fused", "false"]
    main = import_module(f"{Path(config).parts[0]}.cli").main
    main(["fit", *given, "--trainer.max_epochs", "1"])
    main(["fit", *given, "--trainer.max_epochs", "2", "--ckpt_path", "last"])
    main(["test", *given, "--ckpt_path", "last"])
