"""Random numbers that are determined by the numbers of the examples."""

from typing import Any

import numpy as np


def uniform(index: np.ndarray, draws: int, seed: int = 0, stream: int = 0) -> np.ndarray:
    """Random numbers uniform in [0, 1), `float64 [n draws]`, determined by the video numbers.

    Each number is a hash of (seed, stream, index, draw) by the mixing function of SplitMix64
    (Steele et al. 2014). So a whole batch is drawn at once, and the numbers of a video do not
    depend on the other videos of the batch.

    Args:
        index: Numbers of the videos, `[n]`.
        draws: Number of draws for each video.
        seed: Random seed.
        stream: Number of the stream; different streams are independent.
    """
    with np.errstate(over="ignore"):
        x = _splitmix64(np.uint64(seed) + np.uint64(1))
        x = _splitmix64(x + np.uint64(stream))
        x = _splitmix64(x + np.asarray(index, np.uint64)[:, None])
        x = _splitmix64(x + np.arange(draws, dtype=np.uint64))
    return (x >> np.uint64(11)) * 2.0**-53


def _splitmix64(x: Any) -> Any:
    x = np.asarray(x + np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
