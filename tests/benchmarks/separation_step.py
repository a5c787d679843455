"""One training step of the full Moving MNIST model of the separation: ours beside frame by frame.

    python tests/benchmarks/separation_step.py [--repeats 5] [--threads 1] [--batch 16]

Baseline, written out here as the published implementation goes about it: every window of frames
is encoded, and every frame decoded, by a call of its own, in single precision. Ours encodes and
decodes all at once; `bf16` is the precision of `separation_mmnist.yaml`. Same weights, 15 frames
of 64x64, Adam. Batch norms see all frames at once in ours, and each frame alone in the baseline,
so the losses differ a little; with `decoded` 8, the loss is an estimate from 8 random frames.
Times are medians of interleaved repeats, as ratios.
"""

import argparse
import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from torch import Tensor

from common.nn.mlp import MLPField
from tests.benchmarks.timing import compare, training_step
from video_ode.dynamics.residual import ResidualBlocks
from video_ode.frames.dcgan import DCGANDecoder, DCGANEncoder
from video_ode.separation.model import Separation

FRAMES, SHAPE, GIVEN = 15, (1, 64, 64), 5


def build() -> Separation:
    encoder = partial(DCGANEncoder, bias=True, head="linear")
    return Separation(
        SHAPE,
        partial(encoder, code_size=20),
        partial(DCGANDecoder, bias=True),
        partial(ResidualBlocks, field=partial(MLPField, width=512, layers=3, gain=1.41)),
        partial(encoder, code_size=128),
        GIVEN,
    )


def straightforward_loss(model: Separation, x: Tensor) -> Tensor:
    """`x` is `[b t c h w]`."""
    other = int(torch.randint(FRAMES - GIVEN + 1, ()))
    first, last = x[:, :GIVEN].flatten(1, 2), x[:, -GIVEN:].flatten(1, 2)
    content, content_last = model.content(first)[0], model.content(last)[0]
    elsewhere = model.motion(x[:, other : other + GIVEN].flatten(1, 2))[0]
    aligned = model.decoder(torch.cat([content, elsewhere], 1))
    start = state = model.motion(first)[0]
    frames = [model.decoder(torch.cat([content, state], 1))]
    for _ in range(1, FRAMES):
        state = state + model.dynamics.fields[0](torch.zeros(()), state)
        frames.append(model.decoder(torch.cat([content, state], 1)))
    return (
        model.prediction * (torch.stack(frames, 1) - x).square().mean()
        + model.alignment * (aligned - x[:, other]).square().mean()
        + model.invariance * (content - content_last).square().mean()
        + model.norm * 0.5 * start.square().sum(1).mean()
    )


def reference_step(model: Separation, video: Tensor) -> Callable[[], float]:
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    return training_step(model, lambda: straightforward_loss(model, video))


def our_step(
    model: Separation, video: Tensor, half: bool = False, decoded: int | None = None
) -> Callable[[], float]:
    model = copy.deepcopy(model)
    model.decoded = decoded
    times, mask = torch.arange(float(FRAMES)), torch.ones(video.shape[:2], dtype=torch.bool)

    def compute() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return model.loss(video, times, mask, GIVEN, 1.0)[0]

    return training_step(model, compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, video = build(), torch.rand(arguments.batch, FRAMES, *SHAPE)
    steps = {
        "straightforward": reference_step(model, video),
        "ours": our_step(model, video),
        "ours, bf16": our_step(model, video, half=True),
        "ours, decoded 8": our_step(model, video, decoded=8),
        "ours, bf16, decoded 8": our_step(model, video, half=True, decoded=8),
    }
    print(f"batch {arguments.batch}, {arguments.threads} threads, torch {torch.__version__}")
    compare(steps, arguments.repeats, torch.device("cpu"), "straightforward")


if __name__ == "__main__":
    main()
