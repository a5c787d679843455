"""Pictures of optical flow in the colours of Baker et al. (2007)."""

import numpy as np
import torch
from torch import Tensor

from common.errors import check_positive
from common.inputs import check_flow

# From red to yellow, green, cyan, blue, magenta and back to red, in so many steps: the eye tells
# more colours apart in some parts of the circle than in others.
STEPS = (15, 6, 4, 11, 13, 6)
PLACES = np.cumsum((0, *STEPS))
RED, GREEN, BLUE = (1, 1, 0, 0, 0, 1, 1), (0, 1, 1, 1, 0, 0, 0), (0, 0, 0, 1, 1, 1, 0)


def flow_colours(flow: Tensor, most: float | None = None, valid: Tensor | None = None) -> Tensor:
    """Picture of an optical flow: the hue is the direction, the saturation is the length.

    Motion to the right is red, down yellow, left light blue, up violet; no motion is white. The
    55 colours are those of Baker et al. (2007), at equal angles around the whole circle. Many
    programs stretch them until the last one meets the first, so that a seam shows at the right;
    here hues differ from theirs by at most one of the 55 colours.

    Args:
        flow: Flow `[... 2 h w]` to the right and down.
        most: Length in pixels that has full saturation; longer motions are darker. None: that of
            the longest motion in the whole tensor.
        valid: Where the flow is known, `bool [... h w]`. None: where it is finite.

    Returns:
        `uint8 [... 3 h w]`, black where the flow isn't known.

    Raises:
        InputError: Other shapes or types, or `most` isn't above 0.
    """
    check_positive(most=most)
    check_flow(flow, valid)
    known = flow.isfinite().all(-3)
    known = known if valid is None else known & valid
    x, y = flow.detach().where(known.unsqueeze(-3), 0).double().cpu().movedim(-3, 0).numpy()
    length = np.hypot(x, y)
    length = length / (most or length.max(initial=0) or 1)
    place = PLACES[-1] * (np.arctan2(y, x) / (2 * np.pi) % 1)
    hue = np.stack([np.interp(place, PLACES, channel) for channel in (RED, GREEN, BLUE)], -3)
    length = length[..., None, :, :]
    colours = np.where(length <= 1, 1 - length * (1 - hue), 0.75 * hue)
    return torch.tensor((255 * colours).astype(np.uint8)) * known.cpu().unsqueeze(-3)
