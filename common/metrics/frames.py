"""Metrics that compare predicted frames with true frames: PSNR, SSIM, LPIPS.

For another metric, write a subclass of `FrameMetric` and name it in a configuration.
"""

import abc
import math
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.metrics.weights import read_weights

ALEXNET = "alexnet-owt-7be5be79.pth"
ALEXNET_URL = f"https://download.pytorch.org/models/{ALEXNET}"
BEST_PSNR = 20 * math.log10(255)


class FrameMetric(nn.Module, abc.ABC):
    """Metric that compares each predicted frame with the true one.

    Attributes:
        name: Name in logs and files, such as `psnr`.
        label: Label in pictures, with the unit.
        better: Direction of the metric: whether a `higher` or a `lower` value is better.
        digits: Format of a value in tables.
        axis: Scale of the metric's axis in figures.
        own_unit: Whether it gets fields in their own unit, not from 0 to 1.
    """

    name: str
    label: str
    better: Literal["higher", "lower"] = "higher"
    digits: str = ".4f"
    axis: Literal["linear", "log"] = "linear"
    own_unit: bool = False

    @abc.abstractmethod
    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Value of each frame, `[...]`.

        Args:
            prediction: Frames `[... c h w]` in `[0, 1]`, or fields in their own unit if the metric
                is `own_unit`.
            truth: True frames; leading axes are broadcast.
        """


class PSNR(FrameMetric):
    """Peak signal-to-noise ratio, see `psnr`."""

    name, label, digits = "psnr", "PSNR, dB", ".2f"

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return psnr(prediction, truth)


class SSIM(FrameMetric):
    """Structural similarity, see `ssim`.

    Attributes:
        smallest: Least height and width of a frame, those of the window.
    """

    name, label, smallest = "ssim", "SSIM", 11

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return ssim(prediction, truth)


class MSE(FrameMetric):
    """Mean squared error of a frame, the metric of physical fields.

    The unit is the square of the field's own, such as °C²; for pictures the range from black to
    white is 1.
    """

    name, label, better, digits = "mse", "MSE", "lower", ".3g"
    axis, own_unit = "log", True

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        return (prediction - truth).square().mean((-3, -2, -1))


def psnr(prediction: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame, `10 log10(1 / mse)`, in dB.

    It is computed for each frame and channel, then averaged over channels (Franceschi 2020). A
    root mean square error below one grey level of 255 counts as one grey level, 48.13 dB.
    Otherwise, in scenes that may stand still, a few frames that a still picture predicts exactly
    would outweigh all others.

    Args:
        prediction: Frames `[... c h w]` in `[0, 1]`.
        truth: True frames; leading axes are broadcast.

    Returns:
        Values `[...]`, at most `BEST_PSNR`.
    """
    mse = (prediction - truth).square().mean((-2, -1))
    return (-10 * mse.clamp(min=255**-2).log10()).mean(-1)


def ssim(prediction: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each frame (Wang 2004), the mean over channels.

    The window is Gaussian, 11 x 11 with σ = 1.5, and used only where it lies within the frame;
    K1 = 0.01, K2 = 0.03, range 1. The result equals that of scikit-image with
    `gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1`. Other windows
    and ranges change the value by up to 0.2.

    Args:
        prediction: Frames `[... c h w]` in `[0, 1]`.
        truth: True frames; leading axes are broadcast.

    Returns:
        Values `[...]`, at most 1.

    Raises:
        InputError: Frames smaller than the window.
    """
    h, w = truth.shape[-2:]
    if min(h, w) < SSIM.smallest:
        raise InputError(f"got frames of {h} x {w}; SSIM's window needs at least 11 x 11")
    # Variances are small differences of large numbers: 16 bits, or the 19-bit products of a GPU,
    # aren't enough.
    dtype = torch.float32 if truth.device.type == "mps" else torch.float64
    prediction, result = prediction.to(dtype), prediction.dtype
    truth = truth.to(dtype)
    down, across = _window(h).to(truth), _window(w).to(truth).T

    def local_mean(x: Tensor) -> Tensor:
        # Twice as fast as convolutions with the window along rows and columns.
        return down @ x @ across

    x, y = local_mean(prediction), local_mean(truth)
    var_x = local_mean(prediction.square()) - x.square()
    var_y = local_mean(truth.square()) - y.square()
    cov = local_mean(prediction * truth) - x * y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * x * y + c1) / (x.square() + y.square() + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean((-3, -2, -1)).to(result)


def _window(size: int) -> Tensor:
    """Matrix `[size - 10, size]` of the moving Gaussian mean over a line of pixels."""
    weights = torch.exp(-torch.arange(-5.0, 6, dtype=torch.float64).square() / (2 * 1.5**2))
    weights = weights / weights.sum()
    starts = range(size - 10)
    return torch.stack([nn.functional.pad(weights, (i, size - 11 - i)) for i in starts])


class LPIPS(FrameMetric):
    """Learned perceptual image patch similarity, v0.1 on AlexNet (Zhang 2018).

    The features after each of the five rectifiers are normalized over channels. Their squared
    differences are weighted by a linear head, averaged over positions and summed over layers. Grey
    frames are repeated to three channels; frames are not resized. The network always stays in
    evaluation mode and is never trained.

    Args:
        weights: File of torchvision's AlexNet, `alexnet-owt-7be5be79.pth`, read as tensors only.
            The linear heads are a part of torchmetrics.

    Raises:
        InputError: A file is missing or does not hold these weights.
    """

    name, label, better = "lpips", "LPIPS", "lower"

    shift: Tensor
    scale: Tensor

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        self.features = _alexnet()
        self.heads = nn.ParameterList([torch.empty(c) for c in (64, 192, 384, 256, 256)])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None])
        backbone = read_weights(weights, f"LPIPS needs AlexNet's weights: download {ALEXNET_URL}")
        self._load_backbone(backbone, weights)
        self._load_heads()
        self.eval().requires_grad_(False)

    def forward(self, prediction: Tensor, truth: Tensor) -> Tensor:
        """Distance between each frame and the true one.

        Args:
            prediction: Frames `[... c h w]` in `[0, 1]`, of 1 or 3 channels.
            truth: True frames; leading axes are broadcast.

        Returns:
            Values `[...]`, 0 for equal frames.

        Raises:
            InputError: Neither 1 nor 3 channels, or frames too small for AlexNet.
        """
        pairs = zip(self._activations(prediction), self._activations(truth), strict=True)
        total = torch.zeros((), dtype=truth.dtype, device=truth.device)
        for head, (a, b) in zip(self.heads, pairs, strict=True):
            total = total + ((a - b).square() * head[:, None, None]).sum(-3).mean((-2, -1))
        return total

    def train(self, mode: bool = True) -> "LPIPS":
        return super().train(False)

    def _activations(self, frames: Tensor) -> list[Tensor]:
        """Normalized features of the five layers, `[... c' h' w']` each."""
        *batch, c, h, w = frames.shape
        if c not in (1, 3) or min(h, w) < 31:
            raise InputError(
                f"got frames of {c} channels and {h} x {w} pixels; LPIPS needs 1 or 3 channels "
                "and at least 31 x 31"
            )
        x = (2 * frames.reshape(-1, c, h, w).expand(-1, 3, -1, -1) - 1 - self.shift) / self.scale
        found = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                unit = x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()
                found.append(unit.reshape(*batch, *unit.shape[1:]))
        return found

    def _load_backbone(self, state: dict[str, Tensor], path: str | Path) -> None:
        prefix = "features."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        try:
            self.features.load_state_dict(own)
        except RuntimeError as error:
            cause = str(error).replace("\n\t", " ")
            raise InputError(f"{path} isn't AlexNet ({cause}); download {ALEXNET_URL}") from error

    def _load_heads(self) -> None:
        path = Path(str(files("torchmetrics") / "functional/image/lpips_models/alex.pth"))
        need = "LPIPS needs torchmetrics' linear heads: reinstall torchmetrics"
        state = read_weights(path, need)
        for i, head in enumerate(self.heads):
            head.data.copy_(state[f"lin{i}.model.1.weight"].flatten())


def _alexnet() -> nn.Sequential:
    """Convolutions of AlexNet, numbered as in torchvision (Krizhevsky 2014)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    )
