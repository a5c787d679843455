"""One training step of a CNF: ours beside the way the RNODE code does it.

    python tests/benchmarks/cnf_step.py [--repeats 7] [--threads 1] [--batch 16] [--no-compile]
        [--device cuda]

Baseline, written out here: torchdiffeq's adjoint over a field that concatenates the time in every
layer, with the trace, kinetic energy and Jacobian norm from a reverse-mode product. Ours: the same
network and weights as `ConcatField`, backpropagated straight through the solver, value and tangent
carried together. Same solver (rk4, 4 steps), same 16 evaluations, same noise. Times are medians of
interleaved repeats, as ratios; memory is the peak of the step's own process, above its start.
"""

import argparse
import copy
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchdiffeq import odeint_adjoint

from common.flows.base import normal_log_prob
from common.flows.cnf import CNF
from common.nn.fields import ConcatField
from common.ode.divergence import Hutchinson
from common.ode.regularize import JacobianNorm, KineticEnergy
from common.ode.solve import Solver
from tests.benchmarks.timing import interleaved

CHANNELS, SIZE, WIDTH, STEPS = 3, 32, 64, 4
Step = Callable[[], tuple[float, list[Tensor]]]


class FixedNoise(Hutchinson):
    """Hutchinson's estimate with noise given beforehand, so that both ways see the same."""

    def __init__(self, eps: Tensor) -> None:
        super().__init__()
        self.eps = eps

    def draw(self, z: Tensor) -> Tensor:
        return self.eps


class ReferenceField(nn.Module):
    """The RNODE network: time as one more constant channel of every convolution."""

    def __init__(self, field: ConcatField) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for conv, of_time in zip(field.convs, field.times, strict=True):
            layer = nn.Conv2d(conv.in_channels + 1, conv.out_channels, 3, padding=1)
            layer.weight.data = torch.cat([of_time.weight, conv.weight], 1).detach().clone()
            layer.bias.data = of_time.bias.detach().clone()
            self.convs.append(layer)

    def forward(self, t: Tensor, z: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            z = conv(torch.cat([torch.ones_like(z[:, :1]) * t, z], 1))
            z = functional.softplus(z) if i < len(self.convs) - 1 else z
        return z


def loss_of(z: Tensor, ladj: Tensor, kinetic: Tensor, jacobian: Tensor) -> Tensor:
    nats = -(normal_log_prob(z) + ladj).mean() / z[0].numel()
    return nats + 0.01 * kinetic.mean() + 0.01 * jacobian.mean()


def reference_step(field: ConcatField, x: Tensor, eps: Tensor) -> Step:
    net = ReferenceField(field)

    def dynamics(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            z = state[0].requires_grad_(True)
            dz = net(t, z)
            (product,) = torch.autograd.grad(dz, z, eps, create_graph=True)
        trace = (product * eps).flatten(1).sum(1)
        kinetic = 0.5 * dz.square().flatten(1).mean(1)
        return dz, trace, kinetic, product.square().flatten(1).mean(1)

    def step() -> tuple[float, list[Tensor]]:
        net.zero_grad()
        zeros = x.new_zeros(len(x))
        states = odeint_adjoint(
            dynamics,
            (x, zeros, zeros, zeros),
            torch.tensor([0.0, 1.0], device=x.device),
            method="rk4",
            options={"step_size": 1 / STEPS},
            adjoint_params=tuple(net.parameters()),
        )
        loss = loss_of(*(state[-1] for state in states))
        loss.backward()
        return loss.item(), [conv.weight.grad for conv in net.convs]

    return step


def our_step(
    field: ConcatField, x: Tensor, eps: Tensor, compile: bool = False, gradient: str = "direct"
) -> Step:
    field = copy.deepcopy(field).to(memory_format=torch.channels_last)
    solver = Solver("rk4", step_size=1 / STEPS, gradient=gradient)
    cnf = CNF(field, solver, FixedNoise(eps), compile)
    regularizers = (KineticEnergy(), JacobianNorm())

    def step() -> tuple[float, list[Tensor]]:
        cnf.zero_grad()
        z, ladj, penalties = cnf.transport(x, None, 0.0, 1.0, regularizers=regularizers)
        loss = loss_of(z, ladj, *penalties)
        loss.backward()
        pairs = zip(field.times, field.convs, strict=True)
        return loss.item(), [torch.cat([t.weight.grad, c.weight.grad], 1) for t, c in pairs]

    return step


def bare_step(field: ConcatField, x: Tensor, eps: Tensor) -> Step:
    """As many plain evaluations as the solve has, forward and backward, without any trace."""
    net = ReferenceField(field)

    def step() -> tuple[float, list[Tensor]]:
        net.zero_grad()
        total = sum(
            net(torch.tensor(0.5, device=x.device), x).square().mean() for _ in range(4 * STEPS)
        )
        total.backward()
        return 0.0, []

    return step


def make_steps(batch: int, compile: bool, device: torch.device) -> dict[str, Step]:
    torch.manual_seed(0)
    field = ConcatField(CHANNELS, width=WIDTH)
    for conv in field.convs:
        # At the start the last layer is zero and every gradient but its own too.
        nn.init.kaiming_uniform_(conv.weight, a=5**0.5)
    field = field.to(device)
    x = torch.randn(batch, CHANNELS, SIZE, SIZE).to(device)
    eps = torch.randint_like(x, 2) * 2 - 1
    steps = {
        "RNODE's way": reference_step(field, x, eps),
        "ours": our_step(field, x, eps),
        "ours, checkpoints": our_step(field, x, eps, gradient="checkpoint"),
        "ours, compiled": our_step(field, x, eps, compile=True),
        "bare evaluations": bare_step(field, x, eps),
    }
    if not compile:
        del steps["ours, compiled"]
    return steps


def check(steps: dict[str, Step]) -> None:
    """Warms up, and holds losses and gradients against the baseline's."""
    loss, gradients = steps["RNODE's way"]()
    for name in [name for name in steps if name.startswith("ours")]:
        our_loss, ours = steps[name]()
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(ours, gradients, strict=True)]
        relative = abs(our_loss - loss) / abs(loss)
        print(f"{name}: loss differs by {relative:.1e}, gradients by {max(errors):.1e} (relative)")
        if max(relative, *errors) > 1e-4:
            raise SystemExit("not the same loss and gradients to 1e-4")
    steps["bare evaluations"]()


def peak_memory(name: str, arguments: argparse.Namespace) -> float:
    """MB that one step needs on top of what its process had before, in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name, "--batch", str(arguments.batch)]
    command += ["--device", str(arguments.device)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def high_water(device: torch.device) -> float:
    """Peak memory so far, in MB: of the GPU, or resident (getrusage's is inherited)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    line = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(line[1]) / 1024 if line else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = arguments.device
    if arguments.memory_of:
        step = make_steps(arguments.batch, True, device)[arguments.memory_of]
        before = high_water(device)
        step()
        print(high_water(device) - before)
        return

    steps = make_steps(arguments.batch, not arguments.no_compile, device)
    check(steps)
    times = interleaved(steps, arguments.repeats, device)
    print(
        f"\nbatch {arguments.batch}, {arguments.threads} threads, {device}, "
        f"torch {torch.__version__}"
    )
    print(f"{'':18s} {'median s':>9s} {'ratio':>6s} {'of bare':>8s} {'peak MB':>8s}")
    medians = {name: statistics.median(values) for name, values in times.items()}
    pairs = list(zip(times["RNODE's way"], strict=False))
    for name, seconds in medians.items():
        ratios = [b[0] / t for b, t in zip(pairs, times[name], strict=True)]
        # A compiled step's first call holds the compiler's own memory, which says nothing.
        memory = "" if "compiled" in name else f"{peak_memory(name, arguments):8.0f}"
        ratio, bare = statistics.median(ratios), seconds / medians["bare evaluations"]
        print(f"{name:18s} {seconds:9.3f} {ratio:6.2f} {bare:8.2f} {memory:>8s}")


if __name__ == "__main__":
    main()
