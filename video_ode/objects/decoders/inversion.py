"""Frames by image optimisation with fixed features (Mahendran and Vedaldi 2015)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from common.errors import InputError, check_counts, check_positive
from common.typing import Image, ImageShape, PerSample
from video_ode.objects.decoders.base import FeatureDecoder, check_shape
from video_ode.objects.extractor import FeatureExtractor

EDGE = 1e-3  # pixels of the start keep this distance from black and white, whose logit is infinite


def optimized_frames(
    extractor: Callable[[Tensor], Tensor | Sequence[Tensor]],
    features: Tensor | Sequence[Tensor],
    start: Image,
    steps: int = 200,
    rate: float = 0.05,
    variation: float = 1e-2,
) -> Image:
    """Frames whose features come near to given ones, found by gradient descent from a start.

    It minimizes `‖φ(x) - φ*‖² / ‖φ*‖² + variation · TV(x)` for each frame, with Adam over the
    logits of the pixels, `x = σ(z)`, so that frames stay in `[0, 1]`. The start of a prediction is
    the last given frame: what the features don't tell stays as it was. The frames of a batch don't
    influence one another if those of the extractor don't. The gradients of parameters are left
    alone, and none flow to the features.

    Args:
        extractor: From frames `[n c h w]` to feature maps, or to several of them; in evaluation
            mode.
        features: The wanted feature maps φ*, as many as the extractor gives.
        start: First frames, in `[0, 1]`.
        steps: Number of steps.
        rate: Learning rate of Adam.
        variation: Weight of the total variation, which suppresses noise that features hardly see.

    Raises:
        InputError: Frames outside `[0, 1]`, features that the extractor doesn't give, or numbers
            out of range.
    """
    check_counts(0, steps=steps, variation=variation)
    check_positive(rate=rate)
    if not (start.min() >= 0 and start.max() <= 1):
        raise InputError(f"got a start from {start.min():g} to {start.max():g}; give 0 to 1")
    # Tensors made in inference mode have no gradients; their copies outside it have.
    with torch.inference_mode(False), torch.enable_grad():
        wanted = [target.clone().detach() for target in _maps(features)]
        z = start.clone().detach().clamp(EDGE, 1 - EDGE).logit().requires_grad_()
        optimizer = torch.optim.Adam([z], rate)
        for _ in range(steps):
            frames = z.sigmoid()
            error = feature_error(extractor(frames), wanted)
            loss = (error + variation * total_variation(frames)).sum()
            (z.grad,) = torch.autograd.grad(loss, [z])
            optimizer.step()
        return z.detach().sigmoid()


class OptimizedDecoder(FeatureDecoder):
    """Decoder without weights: image optimisation for the features of one scale.

    It starts from the last given frame, or from grey where there is none, see `optimized_frames`.

    Args:
        shape: Channels, height and width of a frame.
        extractor: Network that gives the features; it is not trained.
        scale: Number of the scale, finest first.
        steps: Number of steps.
        rate: Learning rate of Adam.
        variation: Weight of the total variation.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        shape: ImageShape,
        extractor: FeatureExtractor,
        scale: int = 1,
        steps: int = 200,
        rate: float = 0.05,
        variation: float = 1e-2,
    ) -> None:
        check_counts(0, steps=steps, variation=variation)
        check_positive(rate=rate)
        super().__init__(shape, extractor.shape_at(scale, shape))
        self.extractor = extractor.eval().requires_grad_(False)
        self.scale, self.options = scale, (steps, rate, variation)

    def forward(self, features: Tensor, last: Image | None = None) -> Image:
        check_shape("features", features, self.feature_shape)
        if last is None:
            last = features.new_full((len(features), *self.shape), 0.5)
        return optimized_frames(
            lambda x: self.extractor.features(x)[self.scale], features, last, *self.options
        )

    def _frames(self, features: Tensor) -> Tensor:
        return self(features)


def feature_error(
    features: Tensor | Sequence[Tensor], wanted: Tensor | Sequence[Tensor]
) -> PerSample:
    """Relative squared error `‖φ - φ*‖² / ‖φ*‖²` of each frame, as a mean over its feature maps.

    It is infinite or NaN where wanted features are all zero.

    Args:
        features: Feature maps φ, each `[n …]`.
        wanted: Feature maps φ* of the same shapes.

    Raises:
        InputError: Feature maps of other shapes.
    """
    given, wanted = _maps(features), _maps(wanted)
    shapes = [[tuple(one.shape) for one in maps] for maps in (given, wanted)]
    if shapes[0] != shapes[1]:
        raise InputError(f"got features {shapes[0]}; wanted are features {shapes[1]}")
    errors = [
        (one - other).square().flatten(1).sum(1) / other.square().flatten(1).sum(1)
        for one, other in zip(given, wanted, strict=True)
    ]
    return torch.stack(errors).mean(0)


def total_variation(frames: Image) -> PerSample:
    """Mean absolute difference of neighbouring pixels of each frame, down plus across."""
    down, across = frames.diff(dim=2), frames.diff(dim=3)
    return down.abs().flatten(1).mean(1) + across.abs().flatten(1).mean(1)


def _maps(features: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [features] if isinstance(features, Tensor) else list(features)
