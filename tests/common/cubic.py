"""Cubic interpolation as OpenCV does it, written by hand."""

import math

import numpy as np


def cubic(size, out):
    """Matrix `[out size]` of OpenCV's `INTER_CUBIC`: Keys' kernel with a = -0.75."""
    matrix = np.zeros((out, size))
    for i in range(out):
        place = (i + 0.5) * size / out - 0.5
        for k in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - k)
            near = 1.25 * x**3 - 2.25 * x**2 + 1
            far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            matrix[i, min(max(k, 0), size - 1)] += near if x <= 1 else far
    return matrix
