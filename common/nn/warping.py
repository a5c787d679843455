"""Optical flow as a map of coordinates: sampling at moved pixels, and the inverse of a flow."""

import torch
from torch import Tensor
from torch.nn import functional

from common.errors import check_counts
from common.inputs import check_flow

TOLERANCE = 0.01  # pixels by which a fixed point may be wrong


def inverted_flow(
    flow: Tensor, steps: int = 20, visible: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Backward flow: from the second picture to the first, of the flow from first to second.

    It is the fixed point of `b(y) = -f(y + b(y))`, where the flow `f` is interpolated linearly
    between pixels. The iteration converges where the flow changes by less than 1 pixel from one
    pixel to the next.

    Args:
        flow: Flow from the first picture to the second, `[... 2 h w]`, to the right and down.
        steps: Steps of the iteration.
        visible: Where the flow is known and the point is seen in the second picture too, `bool
            [... h w]`. Without it, a pixel at which one surface hides another may get the motion
            of the hidden one. None: everywhere.

    Returns:
        The backward flow, 0 where it isn't known; and the mask of the pixels where it is known,
        `bool [... h w]`: the iteration has converged within 0.01 pixel, at a point inside the
        first picture, and that point is visible.

    Raises:
        InputError: Other shapes or types, or no step.
    """
    check_flow(flow, visible)
    check_counts(1, steps=steps)
    h, w = flow.shape[-2:]
    forward = flow.reshape(-1, 2, h, w)
    forward = forward.to(torch.promote_types(flow.dtype, torch.float32))
    across, down = (torch.arange(size).to(forward) for size in (w, h))
    pixels = torch.stack(torch.meshgrid(across, down, indexing="xy"))
    back = -forward
    for _ in range(steps):
        back, before = -sampled(forward, pixels + back), back
    x, y = (pixels + before).unbind(1)
    known = torch.linalg.vector_norm(back - before, dim=1) < TOLERANCE
    known &= (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    if visible is not None:
        seen = visible.reshape(-1, 1, h, w).to(forward)
        known &= sampled(seen, pixels + before)[:, 0] > 1 - 1e-3
    back = back.where(known[:, None], 0)
    return back.reshape(flow.shape).to(flow.dtype), known.reshape((*flow.shape[:-3], h, w))


def sampled(x: Tensor, points: Tensor) -> Tensor:
    """Values at points between pixels, by bilinear interpolation; outside, those of the border.

    Args:
        x: Images or fields `[b c h w]`.
        points: Column and row of each point, `[b 2 ...]`, counted in pixels from the middle of the
            first one.

    Returns:
        `[b c ...]`, two axes in place of `...`.
    """
    last = points.new_tensor([x.shape[-1] - 1, x.shape[-2] - 1]).clamp(min=1)
    grid = 2 * points.movedim(1, -1) / last - 1
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
