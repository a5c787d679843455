"""Steps of the published TGAN, their shares, and singular value clipping.

    python tests/benchmarks/gan_step.py [--repeats 5] [--threads 1] [--batch 4]

Generator with an ODE, and critic, on 16 frames of 64x64 px, beside a critic of three sparse
frames, for which the generator renders no others. Singular values of the largest layer, 512 x
16,384, are clipped by a Gram matrix and, for comparison, by a singular value decomposition. Times
are medians of interleaved repeats.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.nn.mlp import MLPField
from common.ode.solve import Solver
from tests.benchmarks.timing import interleaved
from video_ode.adversarial import Wasserstein
from video_ode.dynamics.ode import NeuralODE
from video_ode.dynamics.time_scaled import TimeScaled
from video_ode.gan.clipping import clipped
from video_ode.gan.critic import Critic, SparseCritic
from video_ode.gan.generator import LatentVideoGenerator
from video_ode.gan.module import VideoGANModule
from video_ode.gan.tgan import TGANCritic, TGANDecoder

SHAPE, FRAMES = (3, 64, 64), 16


def gan(critic: Critic) -> VideoGANModule:
    field = partial(MLPField, layers=1, last_activation="tanh")
    ode = partial(NeuralODE, field=field, solver=Solver("rk4", step_size=1 / 15))
    scaled = partial(TimeScaled, dynamics=ode, frames=15.0)
    generator = LatentVideoGenerator(SHAPE, scaled, TGANDecoder, 100, prior="uniform", tied=True)
    return VideoGANModule(generator, [critic], Wasserstein())


def step(module: VideoGANModule, player: str, clip: Clip) -> Callable[[], None]:
    trained = module.critics if player == "critic" else module.generator

    def run() -> None:
        module.critics.requires_grad_(player == "critic")
        module.generator.requires_grad_(player == "generator")
        trained.zero_grad()
        module.loss(player, clip)[0].backward()

    return run


def by_decomposition(matrix: Tensor) -> Tensor:
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return (u * s.clamp(max=1)) @ v


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    frames = torch.randint(256, (arguments.batch, FRAMES, *SHAPE), dtype=torch.uint8)
    seen = torch.ones(arguments.batch, FRAMES, dtype=torch.bool)
    clip = Clip(frames, torch.arange(float(FRAMES)), seen, torch.arange(arguments.batch))
    whole, sparse = gan(TGANCritic(SHAPE)), gan(SparseCritic(SHAPE, width=64))
    matrix = torch.randn(512, 16384) * (2 / (512 + 16384)) ** 0.5 * 2**0.5  # as at the start
    steps = {
        "generator, whole clip": step(whole, "generator", clip),
        "critic, whole clip": step(whole, "critic", clip),
        "generator, sparse clip": step(sparse, "generator", clip),
        "critic, sparse clip": step(sparse, "critic", clip),
        "singular values, decomposition": lambda: by_decomposition(matrix),
        "singular values, Gram matrix": lambda: clipped(matrix),
    }
    times = interleaved(steps, arguments.repeats, torch.device("cpu"))
    medians = {name: statistics.median(values) for name, values in times.items()}
    turn = medians["generator, whole clip"] + medians["critic, whole clip"]
    print(f"batch {arguments.batch}, {arguments.threads} threads, torch {torch.__version__}")
    print(f"{'':32s} {'median s':>9s} {'share of a turn of whole clips':>31s}")
    for name, seconds in medians.items():
        print(f"{name:32s} {seconds:9.3f} {seconds / turn:31.0%}")
    slow, fast = (times[f"singular values, {kind}"] for kind in ("decomposition", "Gram matrix"))
    ratio = statistics.median(b / a for a, b in zip(slow, fast, strict=True))
    error = (clipped(matrix) - by_decomposition(matrix)).abs().max()
    print(f"clipping: {ratio:.2f} of the decomposition's time, largest difference {error:.1e}")


if __name__ == "__main__":
    main()
