"""Fréchet distance between real and generated images, in the features of a network (FID)."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from common.errors import InputError, reason
from common.metrics.features import FeatureExtractor, RandomConvolutions, to_rgb
from common.metrics.weights import read_weights
from common.typing import Pixels, PixelVideo

NEED = (
    "FID needs torch-fidelity's InceptionV3 weights, weights-inception-2015-12-05-6726825d.pth: "
    "download this file and give its path"
)


class InceptionFeatures(FeatureExtractor):
    """Features of the standard FID: the 2,048 pooled features of torch-fidelity's InceptionV3.

    The weights are read as tensors and nothing else (`weights_only=True`); nothing is downloaded.

    Args:
        weights: File of torch-fidelity's weights, `weights-inception-2015-12-05-6726825d.pth`.

    Raises:
        InputError: There is no such file, it holds other weights, or torch-fidelity can't be
            imported.
    """

    name = "fid"
    num_features = 2048

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        # torch-fidelity reads the file that it is given as a pickle, which may run code. So it
        # gets a new file, written from the tensors that were read safely.
        torch.save(read_weights(weights, NEED), file := io.BytesIO())
        file.seek(0)
        self.network = _inception(file)

    def forward(self, images: Pixels) -> Tensor:
        return self.network(to_rgb(images))[0]


class RandomFeatures(FeatureExtractor):
    """Features of a small convolutional network with random weights, the same for one seed.

    They serve tests and comparisons between runs of this project. The distance can't be compared
    with an FID, so it has its own name.

    Args:
        seed: Seed of the weights. The global random state is neither used nor changed.
    """

    name = "random_feature_frechet"
    num_features = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.network = RandomConvolutions(self.num_features, 2, seed)

    def forward(self, images: Pixels) -> Tensor:
        return self.network(to_rgb(images))


class FrechetDistance(FrechetInceptionDistance):
    """Squared Fréchet distance of two Gaussians fitted to features (Heusel 2017, eq. 6).

    `|m - m'|² + tr(S + S' - 2 (S S')^(1/2))`, with means m and covariances S in float64 over the
    images of all devices. With few images its bias is large and positive: compare numbers from
    equally many images only; 50,000 are usual. With the features of videos it takes videos.

    Args:
        features: Map from images, or from videos, to features; its `name` is the name of the
            distance.
        reset_real_features: Whether `reset` forgets the real images too.
    """

    def __init__(self, features: FeatureExtractor, reset_real_features: bool = True) -> None:
        super().__init__(features.eval().requires_grad_(False), reset_real_features)
        self.name = features.name

    def update(self, images: Pixels | PixelVideo, real: bool) -> None:
        """Adds images or videos, real or generated ones."""
        super().update(images, real)

    def compute(self) -> Tensor:
        """Distance between the examples added so far.

        Raises:
            InputError: Fewer than two examples on one side.
        """
        real, fake = int(self.real_features_num_samples), int(self.fake_features_num_samples)
        if min(real, fake) < 2:
            raise InputError(
                f"got {real} real and {fake} generated examples; {self.name} needs two of each"
            )
        return super().compute()


def frechet_distance(real: Tensor, generated: Tensor) -> Tensor:
    """Squared Fréchet distance of two Gaussians fitted to features (Heusel 2017, eq. 6).

    `|m - m'|² + tr(S + S' - 2 (S S')^(1/2))` in float64. This function takes all features at once,
    which several comparisons can share; `FrechetDistance` takes images batch by batch.

    Args:
        real: Features of real examples, `[n f]`.
        generated: Features of generated examples, `[m f]`.

    Raises:
        InputError: Fewer than two examples on one side.
    """
    if min(len(real), len(generated)) < 2:
        raise InputError(
            f"got {len(real)} real and {len(generated)} generated examples; a Fréchet distance "
            "needs two of each"
        )
    real, generated = real.double(), generated.double()
    # With S = Rᵀ R and S' = Qᵀ Q, the trace of (S S')^(1/2) is the sum of the singular values of
    # R Qᵀ. No covariance is formed: with fewer examples than features these matrices are smaller.
    r, q = (
        torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R
        for x in (real, generated)
    )
    trace = torch.linalg.svdvals(r @ q.T).sum()
    apart = (real.mean(0) - generated.mean(0)).square().sum()
    distance = apart + r.square().sum() + q.square().sum() - 2 * trace
    # Rounding may make it negative.
    return distance.clamp(min=0)


def _inception(weights: io.BytesIO) -> nn.Module:
    try:  # imported here: torch-fidelity is large and optional, and may be broken
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"FID can't import torch-fidelity ({error}); install it: pip install -e '.[fid]'"
        ) from error
    try:
        return FeatureExtractorInceptionV3("fid", ["2048"], weights)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the weights aren't torch-fidelity's InceptionV3 ({reason(error)})"
        ) from error
