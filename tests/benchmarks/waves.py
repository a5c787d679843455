"""WaveEq: the whole set at once, beside one sequence after another with an off-the-shelf solver.

    python tests/benchmarks/waves.py [--repeats 5]

The loop, written out here, gives each sequence to torchdiffeq's `odeint` with `method="rk4"`: the
stencil by slices of float32 tensors, 300 steps, then scaling, as the authors' script and loader
do. It is timed on one sequence for each repeat. Ours makes all 300 sequences for each repeat and
writes the file of the set; this is counted too. Both must give the same frames. Medians of the
processor time of interleaved repeats, in one thread.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from torchdiffeq import odeint

from common.data.fields.wave_set import WaveEq, wave_parameters
from common.data.fields.waves import disc

SEQUENCES, SIMULATED = 300, 300
SOURCE = torch.from_numpy(disc()).float()


def second_derivatives(w: torch.Tensor) -> torch.Tensor:
    """Sum of the second derivatives along both axes, by the stencil of fourth order."""
    out = torch.zeros_like(w)
    out[2:-2] = (w[1:-3] + w[3:-1]) * (4 / 3) - w[2:-2] * 2.5 - (w[:-4] + w[4:]) / 12
    out[:, 2:-2] += (w[:, 1:-3] + w[:, 3:-1]) * (4 / 3) - w[:, 2:-2] * 2.5
    out[:, 2:-2] -= (w[:, :-4] + w[:, 4:]) / 12
    return out


def looped(force: float, speed: float) -> np.ndarray:
    """Frames of one sequence, `[t h w]`."""

    def rate(t: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        w, v = state
        push = force * torch.exp(-20 * t) * SOURCE
        return torch.stack([v, speed**2 * second_derivatives(w) + push])

    times = torch.arange(SIMULATED) * 1e-3
    w = odeint(rate, torch.zeros(2, 64, 64), times, method="rk4")[:, 0]
    return ((w - w.min()) / (w.max() - w.min()))[::2].numpy()


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds for 300 sequences in each repeat, ours and the loop's."""
    seconds: dict[str, list[float]] = {"ours": [], "loop": []}
    draws = wave_parameters(SEQUENCES, 42).tolist()
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            path = WaveEq(SEQUENCES, cache=folder).file()
            middle = time.process_time()
            frames = looped(*draws[repeat])
            end = time.process_time()
            seconds["ours"].append(middle - begin)
            seconds["loop"].append(SEQUENCES * (end - middle))
            difference = np.abs(np.load(path, "r")[repeat, :, 0] - frames).max()
        if difference > 1e-3:  # the loop's single precision adds up
            raise SystemExit(f"not the same frames in sequence {repeat}: {difference:.1e} apart")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    seconds = measure(repeats)
    ours, loop = (statistics.median(taken) for taken in seconds.values())
    pairs = zip(seconds["loop"], seconds["ours"], strict=True)
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    print(f"torch {torch.__version__}, numpy {np.__version__}; seconds for {SEQUENCES} sequences:")
    print(f"{'ours':>8s} {'loop':>8s} {'ratio':>7s}")
    print(f"{ours:8.2f} {loop:8.1f} {ratio:7.1f}")


if __name__ == "__main__":
    main()
