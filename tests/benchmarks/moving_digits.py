"""Moving MNIST on the fly: whole batches at once, beside a loop over videos, digits and frames.

    python tests/benchmarks/moving_digits.py [--repeats 31] [--batch 64]

The loop, written out here, does as the generators do: each video alone, each of its digits drawn
by chance, moved in Python and added (or maximised) into a float canvas frame by frame, which is
clipped and turned into bytes. From the same states both must give the same frames. 64 px,
2 digits, 20 frames; medians of the processor time of interleaved repeats, each with other videos,
in one thread.
"""

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

from common.data.videos.moving_mnist import MovingDigits

CANVAS, DIGITS, FRAMES = 64, 2, 20
Step = Callable[[float, float, int], tuple[float, float]]


def toronto(place: float, velocity: float, free: int) -> tuple[float, float]:
    place += velocity
    if place <= 0:
        place, velocity = 0, -velocity
    if place >= free:
        place, velocity = free, -velocity
    return place, velocity


def svg(place: float, velocity: float, free: int) -> tuple[float, float]:
    place += velocity
    if place < 0:
        return 0, -velocity
    if place >= free:
        return free - 1, -velocity
    return place, velocity


def srvp(place: float, velocity: float, free: int) -> tuple[float, float]:
    place += velocity
    while not 0 <= place <= free:
        place = -place if place < 0 else 2 * free - place
        velocity = -velocity
    return place, velocity


STEPS: dict[str, Step] = {"toronto": toronto, "svg": svg, "srvp": srvp}


def video(name: str, pictures: np.ndarray, places: list, velocities: list) -> np.ndarray:
    """One video, as a generator's `__getitem__` makes it."""
    side = pictures.shape[-1]
    step, free = STEPS[name], CANVAS - side
    frames = np.zeros((FRAMES, CANVAS, CANVAS), np.float32)
    for picture, (y, x), (vy, vx) in zip(pictures, places, velocities, strict=True):
        for t in range(FRAMES):
            top, left = (round(y), round(x)) if name == "srvp" else (int(y), int(x))
            seen = frames[t, top : top + side, left : left + side]
            if name == "toronto":
                np.maximum(seen, picture, out=seen)
            else:
                seen += picture
            y, vy = step(y, vy, free)
            x, vx = step(x, vx, free)
    frames[frames > 255] = 255
    return frames.astype(np.uint8)


def drawn(name: str, images: np.ndarray) -> tuple[np.ndarray, list, list]:
    """Digits and their first state, drawn one by one."""
    free = CANVAS - images.shape[-1]
    pictures, places, velocities = [], [], []
    for _ in range(DIGITS):
        pictures.append(images[random.randrange(len(images))])
        if name == "toronto":
            places.append((free * random.random(), free * random.random()))
            angle = 2 * math.pi * random.random()
            velocities.append((0.1 * free * math.sin(angle), 0.1 * free * math.cos(angle)))
        else:
            places.append((random.randrange(free), random.randrange(free)))
            velocities.append((random.randint(-4, 4), random.randint(-4, 4)))
    return np.stack(pictures), places, velocities


def looped(name: str, images: np.ndarray, batch: int) -> np.ndarray:
    return np.stack([video(name, *drawn(name, images)) for _ in range(batch)])


def check(name: str, data: MovingDigits, batch: int) -> None:
    """Holds our frames against the loop's from our first states."""
    numbers, times = torch.arange(batch), data.times("train")
    true = data.trajectories("train", numbers, times[:1])
    frames = data.videos("train", numbers, times)[:, :, 0].numpy()
    images = data.images("train")[:, 0].numpy()
    for k in range(batch):
        start = true.corners[k, 0].tolist(), true.velocities[k, 0].tolist()
        if not np.array_equal(frames[k], video(name, images[true.digits[k]], *start)):
            raise SystemExit(f"{name}: not the same frames in video {k}")


def measure(name: str, batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each repeat, ours and the loop's."""
    data = MovingDigits(name, canvas=CANVAS, n_digits=DIGITS, n_frames=FRAMES)
    check(name, data, batch)
    clips, images = data.clips("train"), data.images("train")[:, 0].numpy()
    seconds: dict[str, list[float]] = {"ours": [], "loop": []}
    for repeat in range(repeats):
        begin = time.process_time()
        clips.frames(list(range(repeat * batch, (repeat + 1) * batch)))
        middle = time.process_time()
        looped(name, images, batch)
        seconds["ours"].append(middle - begin)
        seconds["loop"].append(time.process_time() - middle)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    print(f"batch {arguments.batch}, numpy {np.__version__}; frames a second:")
    print(f"{'':8s} {'ours':>10s} {'loop':>10s} {'ratio':>7s}")
    for name in STEPS:
        seconds = measure(name, arguments.batch, arguments.repeats)
        count = arguments.batch * FRAMES
        ours, loop = (count / statistics.median(taken) for taken in seconds.values())
        pairs = zip(seconds["loop"], seconds["ours"], strict=True)
        ratio = statistics.median(slow / fast for slow, fast in pairs)
        print(f"{name:8s} {ours:10,.0f} {loop:10,.0f} {ratio:7.1f}")


if __name__ == "__main__":
    main()
