"""Fréchet distance between real and generated images, in the features of a network."""

import abc
import io
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import InputError
from common.typing import Pixels


class FeatureExtractor(nn.Module, abc.ABC):
    """What turns images into features for a Fréchet distance; it never leaves evaluation mode.

    Attributes:
        name: Log key of the distance; only the standard Inception features may say `fid`.
        num_features: Length of a feature vector.
    """

    name: str
    num_features: int

    @abc.abstractmethod
    def forward(self, images: Pixels) -> Tensor:
        """Features `[b num_features]` of images of 1 channel (grey) or 3 channels."""

    def train(self, mode: bool = True) -> "FeatureExtractor":
        return super().train(False)


class InceptionFeatures(FeatureExtractor):
    """The 2,048 pooled features of torch-fidelity's InceptionV3: those of the standard FID.

    The weights are read as tensors and nothing else (`weights_only=True`); nothing is downloaded.

    Args:
        weights: File of torch-fidelity's weights, `weights-inception-2015-12-05-6726825d.pth`.

    Raises:
        InputError: No such file, not those weights, or torch-fidelity can't be imported.
    """

    name = "fid"
    num_features = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        self.network = _inception(_checked_weights(Path(weights).expanduser()))

    def forward(self, images: Pixels) -> Tensor:
        return self.network(_coloured(images))[0]


class RandomFeatures(FeatureExtractor):
    """A small convolutional network with random weights, always the same for one seed.

    Good for tests and for telling runs of one project apart; the number says nothing beside an
    FID, hence its own name.

    Args:
        seed: Seed of the weights, drawn without touching the global state.
    """

    name = "random_feature_frechet"
    num_features = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        sizes = [3, 16, 32, self.num_features]
        for i, (n_in, n_out) in enumerate(pairwise(sizes)):
            weight = torch.randn(n_out, n_in, 3, 3, generator=noise, dtype=torch.float32)
            self.register_buffer(f"weight{i}", weight * (2 / (9 * n_in)) ** 0.5, persistent=False)

    def forward(self, images: Pixels) -> Tensor:
        x = _coloured(images).to(next(self.buffers()).dtype) / 127.5 - 1
        for weight in self.buffers():
            x = nn.functional.conv2d(x, weight, stride=2, padding=1).relu()
        return x.mean((2, 3))


class FrechetDistance(FrechetInceptionDistance):
    """Squared Fréchet distance of two Gaussians fitted to features (Heusel 2017, eq. 6).

    `|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))`, summed up in float64 over all devices. It is biased
    upwards by few samples: compare numbers from equally many only, 50,000 by custom.

    Args:
        features: What turns images into features; its `name` is the name of this number.
        reset_real_features: Whether `reset` forgets the real images too.
    """

    def __init__(self, features: FeatureExtractor, reset_real_features: bool = True) -> None:
        super().__init__(features.eval().requires_grad_(False), reset_real_features)
        self.name = features.name

    def update(self, images: Pixels, real: bool) -> None:
        """Add images, real ones or generated ones."""
        super().update(images, real)

    def compute(self) -> Tensor:
        """The distance.

        Raises:
            InputError: Fewer than two images on one side.
        """
        real, fake = int(self.real_features_num_samples), int(self.fake_features_num_samples)
        if min(real, fake) < 2:
            raise InputError(
                f"got {real} real and {fake} generated images; {self.name} needs two of each"
            )
        return super().compute()


def frechet_distance(real: Tensor, generated: Tensor) -> Tensor:
    """Squared Fréchet distance of two Gaussians fitted to features (Heusel 2017, eq. 6).

    `|m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))` in float64; for features already at hand, which
    several comparisons share. `common.metrics.frechet.FrechetDistance` sums them up instead.

    Args:
        real: `[n f]`.
        generated: `[m f]`.

    Raises:
        InputError: Fewer than two on one side.
    """
    if min(len(real), len(generated)) < 2:
        raise InputError(
            f"got {len(real)} real and {len(generated)} generated examples; a Fréchet distance "
            "needs two of each"
        )
    real, generated = real.double(), generated.double()
    s, t = (torch.atleast_2d(torch.cov(x.T)) for x in (real, generated))
    values, vectors = torch.linalg.eigh(s)
    root = vectors * values.clamp(min=0).sqrt()
    # rootᵀ t root has the eigenvalues of s t, and is symmetric.
    trace = torch.linalg.eigvalsh(root.T @ t @ root).clamp(min=0).sqrt().sum()
    apart = (real.mean(0) - generated.mean(0)).square().sum()
    return (apart + s.trace() + t.trace() - 2 * trace).clamp(min=0)  # but for rounding, it is


def _coloured(images: Pixels) -> Pixels:
    if images.shape[1] not in (1, 3):
        raise InputError(f"got images of {images.shape[1]} channels; features need 1 or 3")
    return images.expand(-1, 3, -1, -1)


def _checked_weights(path: Path) -> io.BytesIO:
    """The weights, read safely, as a file of our own making."""
    if not path.is_file():
        raise InputError(
            f"found no file {path}; FID needs torch-fidelity's InceptionV3 weights, "
            "weights-inception-2015-12-05-6726825d.pth: download it and give its path"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may raise anything
        raise InputError(
            f"{path} isn't a file of weights ({_reason(error)}); download it again"
        ) from error
    # torch-fidelity reads what it is given as a pickle that may run code: it gets this one.
    torch.save(state, file := io.BytesIO())
    file.seek(0)
    return file


def _inception(weights: io.BytesIO) -> nn.Module:
    try:  # imported here: both packages are heavy, optional, and may be broken
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"FID can't import torch-fidelity ({error}); install it: pip install -e '.[fid]'"
        ) from error
    try:
        return FeatureExtractorInceptionV3("fid", ["2048"], weights)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the weights aren't torch-fidelity's InceptionV3 ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error that may fill a page or say nothing."""
    return str(error).partition("\n")[0] or type(error).__name__
