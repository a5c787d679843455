"""Methods of optical flow without learning, as baselines: zero flow, TV-L1 and iLK."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from common.errors import InputError, extra
from common.inputs import as_pixels
from common.typing import FlowField, Image

# From two pictures `[b c h w]` in [0, 1] to the flow `[b 2 h w]` from the first to the second, on
# the pixels of the first: motion to the right and down, in pixels.
FlowMethod = Callable[[Tensor, Tensor], Tensor]
REC_601 = (0.299, 0.587, 0.114)  # weights of red, green and blue


def zero_flow(first: Image, second: Image) -> FlowField:
    """Flow of a still scene: 0 everywhere."""
    first, _ = _checked(first, second)
    return torch.zeros_like(first[:, :1]).expand(-1, 2, -1, -1).clone()


def tvl1(first: Image, second: Image) -> FlowField:
    """TV-L1 optical flow (Zach et al. 2007) of scikit-image with its default settings.

    The method minimises the absolute difference of the grey pictures and the total variation of
    the flow, coarse to fine.

    Args:
        first: First pictures, `[b c h w]` in [0, 1], of 1 or 3 channels.
        second: Second pictures of the same shape.

    Raises:
        InputError: The pictures aren't of this kind or differ in shape, or scikit-image is
            missing.
    """
    with extra("embedded"):
        from skimage.registration import optical_flow_tvl1
    return _of_grey(optical_flow_tvl1, first, second)


def ilk(first: Image, second: Image) -> FlowField:
    """Iterative Lucas-Kanade optical flow (Le Besnerais 2005) of scikit-image, as `tvl1`."""
    with extra("embedded"):
        from skimage.registration import optical_flow_ilk
    return _of_grey(optical_flow_ilk, first, second)


def _of_grey(
    method: Callable[[np.ndarray, np.ndarray], np.ndarray], first: Tensor, second: Tensor
) -> Tensor:
    pairs = zip(*map(_grey, _checked(first, second)), strict=True)
    # scikit-image gives the rows before the columns.
    flows = [method(one, two)[::-1] for one, two in pairs]
    return torch.from_numpy(np.stack(flows)).to(first)


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    first, second = as_pixels(first, 4), as_pixels(second, 4)
    if first.shape != second.shape or first.shape[1] not in (1, 3):
        raise InputError(
            f"got pictures of {list(first.shape)} and {list(second.shape)}; give two of equal "
            "shape [b c h w], of 1 or 3 channels"
        )
    return first, second


def _grey(pictures: Tensor) -> np.ndarray:
    """Brightness of pictures, `float32 [b h w]`."""
    weights = pictures.new_tensor(REC_601 if pictures.shape[1] == 3 else (1.0,))
    grey = (pictures * weights[:, None, None]).sum(1)
    return grey.detach().cpu().float().numpy()
