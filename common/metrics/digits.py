"""Classifier of moving digits: video features that ship with the project."""

from itertools import pairwise
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional

from common.metrics.features import to_rgb
from common.metrics.video import ClipClassifier
from common.metrics.weights import read_weights
from common.typing import PixelVideo

WEIGHTS = Path(__file__).with_name("digits.pt")
SIDE = 32  # height and width of the frames that the network sees, in px


class DigitFeatures(ClipClassifier):
    """Features of a small 3-D convolutional network that classifies videos of one moving digit.

    They stand in for C3D and I3D on Moving MNIST, and nothing has to be downloaded. The 40 classes
    are the digit (10) times the direction of its way from the first frame to the last one (down or
    not, times right or not). So the features see the order of frames. The distance and the score
    compare runs of this project only, and have names of their own.

    Frames are scaled to 32×32 px and turned grey. The training videos had 8 to 16 frames, digits
    of 14 px on 32 px and the motions of all three generators. On other videos the features still
    tell small differences, but the classes mean nothing.

    `python -m video_ode.evaluation.train_digits` makes the weights again (seed 0, two cores,
    2026-11-27). Of 500 test videos of 12 frames the network finds the class of 88 % (`toronto`),
    93 % (`svg`), 94 % (`srvp`) and 82 % (`srvp`, stochastic).
    """

    name, score_name = "digit_frechet_video", "digit_inception_score"
    num_features, n_classes = 64, 40

    def __init__(self) -> None:
        super().__init__()
        self.network = DigitNetwork(self.num_features, self.n_classes)
        state = read_weights(WEIGHTS, "install the project again")
        self.network.load_state_dict(state)
        self.eval().requires_grad_(False)

    def forward(self, video: PixelVideo) -> Tensor:
        """Features `[b 64]`, not negative.

        Raises:
            InputError: Neither 1 nor 3 channels.
        """
        return self.network.features(video)

    def probabilities(self, features: Tensor) -> Tensor:
        return self.network.classes(features).softmax(1)


class DigitNetwork(nn.Module):
    """Four 3-D convolutions, the mean over all positions, and a linear classifier.

    Args:
        num_features: Number of features.
        n_classes: Number of classes.
    """

    def __init__(self, num_features: int, n_classes: int) -> None:
        super().__init__()
        strides = [(1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1, 1)]
        layers: list[nn.Module] = []
        for (a, b), stride in zip(pairwise([1, 16, 32, 48, num_features]), strides, strict=True):
            convolution = nn.Conv3d(a, b, 3, stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm3d(b), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.classes = nn.Linear(num_features, n_classes)

    def features(self, video: PixelVideo) -> Tensor:
        """Features `[b num_features]`."""
        grey = to_rgb(video).to(self.classes.weight.dtype).mean(2) / 255
        frames = functional.interpolate(grey, (SIDE, SIDE), mode="area")
        return self.convolutions(frames[:, None]).mean((2, 3, 4))

    def forward(self, video: PixelVideo) -> Tensor:
        """Logits of the classes, `[b n_classes]`."""
        return self.classes(self.features(video))
