"""What SRVP's latent space can do, as pictures: swap the content, mix two motions."""

import torch
from torch import Tensor

from common.data.videos.base import Clip
from common.errors import InputError
from video_ode.evaluation.pictures import Kind, Row, strip
from video_ode.predictor import VideoPredictor, to_pixels, to_unit
from video_ode.srvp.model import SRVP


def swapped(model: VideoPredictor, clip: Clip, n_cond: int) -> Tensor:
    """A picture of every video moving as it does and looking like the next one.

    Three rows each: the motion, the look, and both together.

    Raises:
        InputError: Not SRVP, or fewer than two videos.
    """
    srvp, given = _srvp(model, clip), slice(n_cond)
    video = to_unit(clip.frames)
    look = video.roll(-1, 0)
    content = srvp.content_of(look[:, given])
    both = srvp.with_content(video[:, given], clip.times[given], clip.times, 1, content)[0]
    rows = zip(video, look, both, strict=True)
    return _picture(
        [[("true", motion), ("true", as_), ("predicted", s)] for motion, as_, s in rows], n_cond
    )


def interpolated(model: VideoPredictor, clip: Clip, n_cond: int, n: int = 5) -> Tensor:
    """A picture of the way from each video's motion to the next one's, in `n` rows each.

    Raises:
        InputError: Not SRVP, fewer than two videos or than two rows.
    """
    if n < 2:
        raise InputError(f"got {n} rows; a way needs its two ends")
    srvp, video = _srvp(model, clip), to_unit(clip.frames)[:, :n_cond]
    shares = torch.linspace(0, 1, n, device=video.device)
    way = srvp.interpolate(video, video.roll(-1, 0), clip.times[:n_cond], clip.times, shares)
    return _picture([[("predicted", v) for v in rows] for rows in way.transpose(0, 1)], n_cond)


def _srvp(model: VideoPredictor, clip: Clip) -> SRVP:
    if not isinstance(model, SRVP):
        raise InputError(f"got {type(model).__name__}; only SRVP keeps content and motion apart")
    if len(clip.frames) < 2:
        raise InputError(f"got {len(clip.frames)} video; two are needed")
    return model


def _picture(groups: list[list[tuple[Kind, Tensor]]], n_cond: int) -> Tensor:
    pictures = []
    for group in groups:
        rows = []
        for kind, video in group:
            given: Kind = "given" if kind == "predicted" else kind
            kinds = [given if t < n_cond else kind for t in range(len(video))]
            rows.append(Row(to_pixels(video).cpu(), kinds))
        pictures.append(strip(rows))
    return torch.cat(pictures, -2)
