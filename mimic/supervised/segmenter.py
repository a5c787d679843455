"""A small DeepLabV3+: a class for every pixel (Chen et al. 2018)."""

import torch
from torch import nn
from torch.nn import functional as F

from common.errors import InputError
from common.typing import Image, Sample
from mimic.supervised.networks import BasicBlock, conv_norm_relu


class SmallSegmenter(nn.Module):
    """Encoder, atrous spatial pyramid pooling, and a decoder that also uses early features.

    The bottleneck is `decoder.aspp`, as in the DeepLabV3Plus of segmentation-models-pytorch; the
    others are `encoder.layer1` … `encoder.layer4`, `decoder.low`, `decoder.refine` and `head`.

    Args:
        shape: Channels, height and width of an image.
        n_classes: Number of classes of a pixel.
        width: Number of channels of the first layer; the bottleneck has four times as many.
        rates: Dilations of the atrous convolutions at the bottleneck, whose side is an eighth of
            the image's. The paper's 6, 12 and 18 are for a side of 33; here they would see
            little but padding.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (3, 48, 64),
        n_classes: int = 7,
        width: int = 16,
        rates: tuple[int, ...] = (1, 2, 3),
    ) -> None:
        super().__init__()
        if min(shape[1:]) < 8:
            raise InputError(f"got images of {shape[1]} × {shape[2]}; the network needs 8 × 8")
        self.shape, self.n_out = shape, n_classes
        self.encoder = Encoder(shape[0], width)
        self.decoder = Decoder(width, 4 * width, rates)
        self.head = nn.Conv2d(2 * width, n_classes, 1)

    def forward(self, images: Image) -> Sample:
        """Logits `[b n h w]`."""
        low, high = self.encoder(images)
        logits = self.head(self.decoder(low, high))
        return F.interpolate(logits, images.shape[-2:], mode="bilinear")


class Encoder(nn.Module):
    """Features at half the side and at an eighth of the side; the last layer is atrous."""

    def __init__(self, n_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_relu(n_in, width)
        self.layer1 = BasicBlock(width, width, stride=2)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.layer4 = BasicBlock(4 * width, 4 * width, dilation=2)

    def forward(self, images: Image) -> tuple[Sample, Sample]:
        low = self.layer1(self.conv1(images))
        return low, self.layer4(self.layer3(self.layer2(low)))


class Decoder(nn.Module):
    """Decoder: scales the bottleneck to the size of the early features and joins the two."""

    def __init__(self, n_low: int, n_high: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.aspp = AtrousPyramid(n_high, rates)
        self.low = conv_norm_relu(n_low, n_low, kernel=1)
        self.refine = conv_norm_relu(n_low + n_high, 2 * n_low)

    def forward(self, low: Sample, high: Sample) -> Sample:
        high = F.interpolate(self.aspp(high), low.shape[-2:], mode="bilinear")
        return self.refine(torch.cat([self.low(low), high], 1))


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid: views of a feature from one pixel up to the whole image.

    Args:
        width: Number of channels of the input and of the output.
        rates: Dilation of each 3x3 convolution.
    """

    def __init__(self, width: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        atrous = (conv_norm_relu(width, width, dilation=rate) for rate in rates)
        self.views = nn.ModuleList([conv_norm_relu(width, width, kernel=1), *atrous])
        # Without a norm, which would have a single value of each channel in a batch of one.
        self.whole = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, width, 1), nn.ReLU())
        self.project = conv_norm_relu((len(rates) + 2) * width, width, kernel=1)

    def forward(self, x: Sample) -> Sample:
        whole = self.whole(x).expand(-1, -1, *x.shape[-2:])
        return self.project(torch.cat([*(view(x) for view in self.views), whole], 1))
