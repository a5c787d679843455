"""Features of videos for the Fréchet distance between generated and real ones."""

import abc
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.metrics.frechet import FeatureExtractor
from common.typing import PixelVideo

I3D_URL = "https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt"


class ClipFeatures(FeatureExtractor):
    """What turns videos into features for a Fréchet distance.

    Attributes:
        name: Log key of the distance; only I3D's features may say `fvd`.
        num_features: Length of a feature vector.
    """

    @abc.abstractmethod
    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b num_features]` of videos of 1 channel (grey) or 3 channels."""


class I3DFeatures(ClipFeatures):
    """The 400 logits of an I3D network trained on Kinetics, those of FVD (Unterthiner 2018).

    The file is a TorchScript program, so it can do whatever a program can: give only one that you
    trust.

    Args:
        weights: `i3d_torchscript.pt` (StyleGAN-V), or a program called and answering as it does.

    Raises:
        InputError: No such file, or not a TorchScript program.
    """

    name = "fvd"
    num_features = 400

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        path = Path(weights).expanduser()
        need = f"FVD needs I3D as a TorchScript program, i3d_torchscript.pt: download {I3D_URL}"
        if not path.is_file():
            raise InputError(f"found no file {path}; {need}")
        try:
            self.network = torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise InputError(f"{path} isn't a TorchScript program; {need}") from error

    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b 400]`.

        Raises:
            InputError: Fewer than 10 frames, or neither grey nor colour.
        """
        if video.shape[1] < 10:
            raise InputError(f"got videos of {video.shape[1]} frames; FVD needs at least 10")
        # As floats: a program that computes with bytes would overflow.
        clips = _coloured(video).transpose(1, 2).float()
        return self.network(clips, rescale=True, resize=True, return_features=True)


class RandomVideoFeatures(ClipFeatures):
    """A small 3-D convolutional network with random weights, always the same for one seed.

    Good for tests and for telling runs of one project apart; the number says nothing beside an
    FVD, hence its own name.

    Args:
        seed: Seed of the weights, drawn without touching the global state.
    """

    name = "random_feature_frechet_video"
    num_features = 64

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        for i, (n_in, n_out) in enumerate(pairwise([3, 16, 32, self.num_features])):
            weight = torch.randn(n_out, n_in, 3, 3, 3, generator=noise, dtype=torch.float32)
            self.register_buffer(f"weight{i}", weight * (2 / (27 * n_in)) ** 0.5, persistent=False)

    def forward(self, video: PixelVideo) -> Tensor:
        weights = list(self.buffers())
        x = _coloured(video).transpose(1, 2).to(weights[0].dtype) / 127.5 - 1
        for weight in weights:
            x = nn.functional.conv3d(x, weight, stride=2, padding=1).relu()
        return x.mean((2, 3, 4))


def _coloured(video: PixelVideo) -> PixelVideo:
    if video.shape[2] not in (1, 3):
        raise InputError(f"got videos of {video.shape[2]} channels; features need 1 or 3")
    return video.expand(-1, -1, 3, -1, -1)
