"""Features of videos for the Fréchet distance (FVD), and the Inception score of videos."""

import abc
from pathlib import Path

import torch
from torch import Tensor

from common.errors import InputError
from common.metrics.features import FeatureExtractor, RandomConvolutions, to_rgb
from common.metrics.weights import existing_file
from common.typing import PixelVideo

I3D_URL = "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt"


class ClipFeatures(FeatureExtractor):
    """Map from videos to features for a Fréchet distance.

    Attributes:
        name: Log key of the distance; only the features of I3D may use `fvd`.
        num_features: Length of a feature vector.
    """

    @abc.abstractmethod
    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b num_features]` of videos of 1 channel (grey) or 3 channels."""


class ClipClassifier(ClipFeatures):
    """Features of a classifier of videos, which also give the probabilities of its classes.

    Attributes:
        score_name: Log key of the Inception score.
        n_classes: Number of classes, the upper limit of the score.
    """

    score_name: str
    n_classes: int

    @abc.abstractmethod
    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities of the classes, `[b n_classes]`, from the features `[b num_features]`."""


def inception_score(probabilities: Tensor) -> Tensor:
    """Inception score (Salimans 2016), as papers on video GANs compute it (Saito 2017).

    `exp(mean KL(p ‖ p̄))` over all videos, without splits, where `p` are the probabilities of the
    classes of one video and `p̄` is their mean; `1e-7` is added to the arguments of the logarithms.
    It is 1 if all videos have the same probabilities. Its upper limit is the number of classes, or
    of videos if these are fewer. Few videos do not reach it: perfect videos of 101 classes, drawn
    at random, score 81 if there are 256 of them and 98 if there are 2,048 (means of 20 draws). So
    compare numbers from equally many videos only.

    Args:
        probabilities: Probabilities of the classes of each video, `[n k]`.

    Returns:
        The score, in float64.

    Raises:
        InputError: No video.
    """
    if not len(probabilities):
        raise InputError("got no video; an Inception score needs one or more")
    p = probabilities.double()
    ratios = (p + 1e-7).log() - (p.mean(0) + 1e-7).log()
    return (p * ratios).sum(1).mean().exp()


class I3DFeatures(ClipFeatures):
    """Features of FVD: the 400 logits of an I3D network trained on Kinetics (Unterthiner 2018).

    The file is a TorchScript program, so it can do everything that a program can do: give only a
    file that you trust.

    Args:
        weights: File `i3d_torchscript.pt` (StyleGAN-V), or another program with the same arguments
            and results.

    Raises:
        InputError: There is no such file, or it isn't a TorchScript program.
    """

    name = "fvd"
    num_features = 400

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        need = f"FVD needs I3D as a TorchScript program, i3d_torchscript.pt: download {I3D_URL}"
        path = existing_file(weights, need)
        try:
            self.network = torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise InputError(f"{path} isn't a TorchScript program; {need}") from error

    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b 400]`.

        Raises:
            InputError: Fewer than 10 frames, or neither 1 nor 3 channels.
        """
        if video.shape[1] < 10:
            raise InputError(f"got videos of {video.shape[1]} frames; FVD needs at least 10")
        # As floats: a program that computes with bytes would overflow.
        clips = to_rgb(video).transpose(1, 2).float()
        return self.network(clips, rescale=True, resize=True, return_features=True)


class RandomVideoFeatures(ClipFeatures):
    """Features of a small 3-D convolutional network with random weights, the same for one seed.

    They serve tests and comparisons between runs of this project. The distance can't be compared
    with an FVD, so it has its own name.

    Args:
        seed: Seed of the weights. The global random state is neither used nor changed.
    """

    name = "random_feature_frechet_video"
    num_features = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.network = RandomConvolutions(self.num_features, 3, seed)

    def forward(self, video: PixelVideo) -> Tensor:
        return self.network(to_rgb(video).transpose(1, 2))
