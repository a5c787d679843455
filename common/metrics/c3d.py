"""C3D network of UCF101: the features of the "IS" and the "FID" in papers on video GANs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from common.errors import InputError, reason
from common.files import shown
from common.metrics.features import to_rgb
from common.metrics.video import ClipClassifier
from common.metrics.weights import existing_file
from common.typing import PixelVideo

C3D_URL = "https://github.com/rezoo/tgan2/releases/tag/v1.0"
NEED = f"the C3D metrics need conv3d_deepnetA_ucf.npz and mean2.npz: download them from {C3D_URL}"

# Number of channels of each convolution
LAYERS = {
    "conv1a": 64,
    "conv2a": 128,
    "conv3a": 256,
    "conv3b": 256,
    "conv4a": 512,
    "conv4b": 512,
    "conv5a": 512,
    "conv5b": 512,
}
POOLED = ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b")  # layers before a pooling
DENSE = {"fc6": (8192, 4096), "fc7": (4096, 4096), "fc8": (4096, 101)}
MEAN_SHAPE = (3, 16, 128, 171)  # blue, green, red; frames; height; width


class C3DFeatures(ClipClassifier):
    """Features of a C3D network (Tran 2015), fine-tuned on UCF101: 4,096 numbers of layer `fc7`.

    Papers on video GANs (TGAN, MoCoGAN, TGANv2) call the Fréchet distance of these features "FID"
    and the score of these probabilities "IS" or "inception score". Neither uses an Inception
    network, so both have names of their own here.

    A video is prepared as in the evaluation of TGAN (Saito 2017): cubic interpolation of every
    frame to 128×128, without antialiasing; channels in the order blue, green, red; minus the mean
    video, columns 21 to 148; the middle 112×112 pixels. The authors' code of TGANv2 scales frames
    in another way, so its numbers are slightly different ones.

    The covariance of fewer than 4,097 videos has no full rank: compare numbers from equally many
    videos only.

    Args:
        weights: File of the weights, `conv3d_deepnetA_ucf.npz`. Arrays are read, nothing else.
        mean: File of the mean video, `mean2.npz`. None: that file beside the weights.

    Raises:
        InputError: There is no such file, or it holds other arrays.
    """

    name, score_name = "c3d_frechet_video", "c3d_inception_score"
    num_features, n_classes = 4096, 101

    shift: Tensor

    def __init__(self, weights: str | Path, mean: str | Path | None = None) -> None:
        super().__init__()
        channels = pairwise([3, *LAYERS.values()])
        with torch.device("meta"):  # no random weights, which the file's replace at once
            self.layers = nn.ModuleDict(
                {
                    name: nn.Conv3d(a, b, 3, padding=1)
                    for name, (a, b) in zip(LAYERS, channels, strict=True)
                }
                | {name: nn.Linear(n_in, n_out) for name, (n_in, n_out) in DENSE.items()}
            )
        weights = existing_file(weights, NEED)
        mean = weights.with_name("mean2.npz") if mean is None else mean
        self.register_buffer("shift", _arrays(mean, {"mean": MEAN_SHAPE})["mean"][..., 21:149])
        shapes = {name: tuple(x.shape) for name, x in self.layers.state_dict().items()}
        found = _arrays(weights, {_chainer_name(name): x for name, x in shapes.items()})
        state = {name: found[_chainer_name(name)] for name in shapes}
        self.layers.load_state_dict(state, assign=True)
        self.eval().requires_grad_(False)

    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b 4096]`, not negative.

        Raises:
            InputError: Another number of frames than 16, or neither 1 nor 3 channels.
        """
        if video.shape[1] != 16:
            raise InputError(
                f"got videos of {video.shape[1]} frames; C3D needs 16: set data.n_eval_frames to "
                "16"
            )
        x = self.prepared(video)
        for name in LAYERS:
            x = self.layers[name](x).relu()
            if name in POOLED:
                kernel = (1, 2, 2) if name == "conv1a" else 2
                # Chainer, which the weights are from, also pools an incomplete last window: the
                # last pooling leaves 4 of 7 rows.
                x = functional.max_pool3d(x, kernel, ceil_mode=True)
        x = self.layers["fc6"](x.flatten(1)).relu()
        return self.layers["fc7"](x).relu()

    def probabilities(self, features: Tensor) -> Tensor:
        return self.layers["fc8"](features).softmax(1)

    def prepared(self, video: PixelVideo) -> Tensor:
        """Input of the network, `[b 3 16 112 112]`."""
        frames = to_rgb(video).flatten(0, 1).to(self.shift.dtype)
        scaled = functional.interpolate(frames, (128, 128), mode="bicubic", align_corners=False)
        clips = scaled.unflatten(0, video.shape[:2]).flip(2).transpose(1, 2)
        return (clips - self.shift)[..., 8:120, 8:120]


def _chainer_name(name: str) -> str:
    """Name of a parameter in the file, such as `conv1a/W` for `conv1a.weight`."""
    layer, _, kind = name.partition(".")
    return f"{layer}/{'W' if kind == 'weight' else 'b'}"


def _arrays(path: str | Path, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Arrays of an npz file by name, in float32; their axes of length 1 don't count.

    Raises:
        InputError: There is no such file, it is damaged, or an array is missing or has another
            shape or type.
    """
    path = existing_file(path, NEED)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in shapes}
    except Exception as error:  # a damaged file may raise any exception
        raise InputError(
            f"{shown(path)} can't be read ({shown(reason(error))}); {NEED}"
        ) from error
    for name, shape in shapes.items():
        got = arrays[name]
        if got.dtype.kind != "f" or got.squeeze().shape != shape:
            raise InputError(
                f"{shown(path)} has {name} of {got.dtype} {got.shape} and not floats of {shape}; "
                f"{NEED}"
            )
    return {name: torch.from_numpy(x.squeeze().astype(np.float32)) for name, x in arrays.items()}
