"""One training step of the full SRVP Moving MNIST model: ours beside the straightforward way.

    python tests/benchmarks/srvp_step.py [--repeats 5] [--threads 2] [--batch 16] [--no-compile]
        [--device cuda]

Baseline, written out here as the published implementation goes about it: time first, frames folded
into the batch for the convolutions, then one frame after the other: posterior, prior and residual
step each a call of its own. Same weights, same random numbers, 15 frames of 64x64, Adam. Times are
medians of interleaved repeats, as ratios; the shares are of the parts' forward and backward
passes, each run alone.
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from common.nn.mlp import MLPField
from tests.benchmarks.timing import compare, interleaved, training_step
from video_ode.dynamics.base import PiecewiseContext
from video_ode.dynamics.residual import ResidualEuler
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.srvp.model import SRVP

FRAMES, SHAPE, BETA_Z = 15, (1, 64, 64), 2.0
Step = Callable[[], float]


def build() -> SRVP:
    field = partial(MLPField, width=512, layers=4, gain=1.41)
    dynamics = partial(ResidualEuler, field=field)
    return SRVP(SHAPE, DCGANEncoder, DCGANDecoder, dynamics, beta_z=BETA_Z)


def normal(raw: Tensor) -> Normal:
    loc, scale = torch.chunk(raw, 2, -1)
    return Normal(loc, functional.softplus(scale) + 1e-8)


def straightforward_loss(model: SRVP, x: Tensor) -> Tensor:
    """`x` is `[t b c h w]`."""
    n_frames, batch = x.shape[:2]
    codes = model.encoder(x.flatten(0, 1))[0].view(n_frames, batch, -1)
    chosen = torch.rand(batch, n_frames).argsort(1)[:, : model.n_inference].T
    w = model.content(
        torch.stack([model.project(codes[t, torch.arange(batch)]) for t in chosen]).sum(0)
    )
    first = normal(model.first(torch.cat([codes[t] for t in range(model.n_inference)], 1)))
    y = first.rsample()
    noise = torch.normal(
        torch.zeros(batch, n_frames - 1, model.z_size), torch.ones(())
    )  # drawn at once, to be the same as ours
    hidden, _ = model.recurrent(codes.transpose(0, 1))
    states, kl_z, residual = [y], x.new_zeros(()), x.new_zeros(())
    for t in range(1, n_frames):
        q, p = normal(model.posterior(hidden[:, t])), normal(model.prior(y))
        z = q.loc + q.scale * noise[:, t - 1]
        kl_z = kl_z + kl_divergence(q, p).sum()
        step = model.dynamics.field(torch.zeros(()), y, z)
        residual = residual + torch.norm(step, p=2, dim=1).sum()
        y = y + step
        states.append(y)
    codes = torch.cat([torch.stack(states), w.expand(n_frames, -1, -1)], 2)
    codes = torch.cat([codes[..., model.y_size :], codes[..., : model.y_size]], 2)
    frames = model.decoder(codes.flatten(0, 1)).view(x.shape)
    nll = -Normal(frames, model.scale).log_prob(x).sum()
    kl_y = kl_divergence(first, Normal(0, 1)).sum()
    return (nll + kl_y + BETA_Z * kl_z + residual) / batch


def reference_step(model: SRVP, video: Tensor) -> Step:
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    x = video.transpose(0, 1).contiguous()
    return training_step(model, lambda: straightforward_loss(model, x))


def our_step(model: SRVP, video: Tensor, compile: bool = False, half: bool = False) -> Step:
    model = copy.deepcopy(model)
    times, mask = torch.arange(float(FRAMES)), torch.ones(video.shape[:2], dtype=torch.bool)
    loss = torch.compile(model.loss) if compile else model.loss

    def compute() -> Tensor:
        with torch.autocast(video.device.type, torch.bfloat16, enabled=half):
            return loss(video, times, mask, 5, 1.0)[0]

    return training_step(model, compute)


def shares(model: SRVP, video: Tensor) -> dict[str, float]:
    """Seconds that the parts of one forward and backward pass take, each alone."""
    model = copy.deepcopy(model)
    batch = len(video)
    frames, device = video.flatten(0, 1), video.device
    w_y = torch.randn(batch * FRAMES, 256 + model.y_size, device=device)
    y = torch.randn(batch, model.y_size, device=device)
    z = PiecewiseContext(torch.randn(batch, FRAMES - 1, model.z_size, device=device))
    times = torch.arange(FRAMES, dtype=torch.float64)
    parts = {
        "encoder": lambda: model.encoder(frames)[0],
        "dynamics": lambda: model.dynamics(y, times, z).states,
        "decoder": lambda: model.decoder(w_y.requires_grad_()),
    }
    steps = {name: (lambda part=part: part().sum().backward()) for name, part in parts.items()}
    taken = interleaved(steps, 3, device)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = build().to(arguments.device)
    video = torch.rand(arguments.batch, FRAMES, *SHAPE).to(arguments.device)
    steps = {
        "straightforward": reference_step(model, video),
        "ours": our_step(model, video),
        "ours, compiled": our_step(model, video, compile=True),
        "ours, bf16": our_step(model, video, half=True),
        "ours, compiled, bf16": our_step(model, video, compile=True, half=True),
    }
    if arguments.no_compile:
        steps = {name: step for name, step in steps.items() if "compiled" not in name}
    print(
        f"batch {arguments.batch}, {arguments.threads} threads, {arguments.device}, "
        f"torch {torch.__version__}"
    )
    compare(steps, arguments.repeats, arguments.device, "straightforward")
    seconds = shares(model, video)
    total = sum(seconds.values())
    print(", ".join(f"{name} {100 * s / total:.0f} %" for name, s in seconds.items()))


if __name__ == "__main__":
    main()
