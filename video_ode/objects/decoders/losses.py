"""Losses of feature decoders (Predoc III, sections 5.2.1 and 5.3.2); each is a scalar."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from common.typing import Image
from video_ode.objects.decoders.base import FeatureDecoder, InvertibleDecoder, check_shape
from video_ode.objects.decoders.inversion import feature_error


def feature_loss(decoder: InvertibleDecoder, frames: Image, features: Tensor) -> Tensor:
    """Mean squared error of the features that the network gives, `mean (f(x) - φ)²`.

    The report trains its i-RevNet with it alone (section 5.2.1).

    Args:
        decoder: Network f.
        frames: Frames x.
        features: Features φ that the detector gives for them.

    Raises:
        InputError: Features or frames of another shape.
    """
    check_shape("features", features, decoder.feature_shape)
    return mse_loss(decoder.encode(frames)[0], features)


def pixel_loss(
    decoder: FeatureDecoder, features: Tensor, frames: Image, noise: float = 0.0
) -> Tensor:
    """Mean squared error of decoded frames, `mean (f⁻¹(φ + σ ε) - x)²`, before they are clamped.

    Together with `feature_loss` it is the report's "data augmentation from both ends" (section
    5.3.2): with noise, the decoder also learns features beside those of the detector, as a
    dynamics predicts them. The gradient reaches the features, so that it trains a dynamics as
    well ("end-to-end training").

    Args:
        decoder: Network f⁻¹; an i-RevNet needs evaluation mode, or layer norm.
        features: Features φ.
        frames: Their frames x.
        noise: Standard deviation σ of the noise, as a share of that of the features in the batch.

    Raises:
        InputError: Features or frames of another shape.
    """
    check_shape("frames", frames, decoder.shape)
    if noise:
        features = features + noise * features.detach().std() * torch.randn_like(features)
    return mse_loss(decoder.unclamped(features), frames)


def cycle_loss(
    decoder: FeatureDecoder, extractor: Callable[[Tensor], Tensor], features: Tensor
) -> Tensor:
    """Cycle consistency `mean ‖φ(f⁻¹(φ*)) - φ*‖² / ‖φ*‖²` (section 5.3.2; Zhu et al. 2017).

    It needs no frames, so that it also trains a decoder on predicted features φ*, which have none.

    Args:
        decoder: Network f⁻¹; the extractor sees its frames in `[0, 1]`.
        extractor: Detector φ, from frames to features.
        features: Features φ*; the error is relative to them, and no gradient reaches them.
    """
    features = features.detach()
    return feature_error(extractor(decoder(features)), features).mean()
