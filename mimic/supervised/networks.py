"""Networks for supervised training, whose layers have names that the plug-in can be given.

All take images in `[0, 1]`. None standardises images, as the norm after the first convolution
does so.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from common.errors import InputError, check_counts
from common.typing import Image, Sample


class Layers(nn.Sequential):
    """Layers by name, of which a slice is layers too (of a subclass it would call `__init__`)."""

    def __getitem__(self, index: slice | int) -> Any:
        named = list(self.named_children())
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(named[index]))
        return named[index][1]


class SmallCNN(Layers):
    """Plain convolutional network for small images.

    Layers: `conv1`, `conv2`, … (convolution, batch norm, ReLU, 2x2 max pooling), `features`
    (`[b hidden]`, the input of the last layer) and `head`. Parts of a layer have names as well:
    `conv1.norm` is the first layer before its ReLU, `features.linear` the last one.

    Args:
        shape: Channels, height and width of an image.
        n_out: Number of outputs.
        widths: Number of channels of each convolution.
        hidden: Size of the feature.
        kernel: Side of the filters, odd.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 28, 28),
        n_out: int = 10,
        widths: tuple[int, ...] = (32, 64),
        hidden: int = 64,
        kernel: int = 5,
    ) -> None:
        check_counts(1, shape=shape, n_out=n_out, widths=widths, hidden=hidden, kernel=kernel)
        if not widths or kernel % 2 == 0:
            raise InputError(
                f"got widths {list(widths)} and kernel {kernel}; give at least one width and an "
                "odd side of the filters"
            )
        height, width = _halved(shape, len(widths))
        channels = (shape[0], *widths)
        layers: dict[str, nn.Module] = {}
        for i, c in enumerate(widths):
            layers[f"conv{i + 1}"] = conv_norm_relu(channels[i], c, kernel)
            layers[f"conv{i + 1}"].add_module("pool", nn.MaxPool2d(2))
        layers["features"] = _dense(channels[-1] * height * width, hidden)
        layers["head"] = nn.Linear(hidden, n_out)
        super().__init__(OrderedDict(layers))
        self.shape, self.n_out = shape, n_out
        # The norm after the filters undoes any scale. From a small start, the noise of the start
        # does not hide what the filters have learned.
        self.get_parameter("conv1.conv.weight").data.mul_(0.1)


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions, `relu(x + F(x))` (He et al. 2016, eq. 1).

    Where the size changes, the shortcut takes every `stride`-th pixel and has zeros for new
    channels; it has no parameters (their option A).

    Args:
        n_in: Number of channels of the input.
        n_out: Number of channels of the output, not below `n_in`.
        stride: Stride of the first convolution.
        dilation: Dilation of both convolutions.
    """

    def __init__(self, n_in: int, n_out: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, dilation, dilation, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, dilation, dilation, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.stride, self.n_new = stride, n_out - n_in

    def forward(self, x: Sample) -> Sample:
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        shortcut = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.n_new))
        return F.relu(shortcut + residual)


class ResNet(Layers):
    """Residual network for CIFAR (He et al. 2016, sec. 4.2): 6n + 2 layers for n blocks.

    Layers: `conv1`, `layer1`, `layer2`, … (each with half the side and twice the channels of the
    one before), `pool` (`[b c]`) and `head`. ResNet-20 has 269,722 parameters for ten classes.

    Args:
        shape: Channels, height and width of an image.
        n_out: Number of outputs.
        blocks: Number of residual blocks of each layer; 3, 5, 7, 9 or 18 in each of three layers
            make ResNet-20, 32, 44, 56 or 110.
        width: Number of channels of the first layer.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (3, 32, 32),
        n_out: int = 10,
        blocks: tuple[int, ...] = (3, 3, 3),
        width: int = 16,
    ) -> None:
        check_counts(1, shape=shape, n_out=n_out, blocks=blocks, width=width)
        if not blocks:
            raise InputError("got no blocks; give each layer 1 or more")
        _halved(shape, len(blocks) - 1)
        layers: dict[str, nn.Module] = {
            "conv1": conv_norm_relu(shape[0], width),
            "layer1": nn.Sequential(*(BasicBlock(width, width) for _ in range(blocks[0]))),
        }
        for i, n in enumerate(blocks[1:]):
            c = width * 2**i
            rest = (BasicBlock(2 * c, 2 * c) for _ in range(n - 1))
            layers[f"layer{i + 2}"] = nn.Sequential(BasicBlock(c, 2 * c, stride=2), *rest)
        layers["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        layers["head"] = nn.Linear(width * 2 ** (len(blocks) - 1), n_out)
        super().__init__(OrderedDict(layers))
        self.shape, self.n_out = shape, n_out
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


class Coder(nn.Module):
    """Encoder of images to a few codes, and one linear map from the codes to the outputs.

    Layers: `conv1`, `conv2`, … (4x4 convolution of stride 2, batch norm, ReLU), `features`,
    `code` (linear, so that a code may be any number) and `head`. A linear head can undo any
    linear mixture of the codes, so the task alone does not fix the axes of the codes.

    Args:
        shape: Channels, height and width of an image.
        n_out: Number of outputs.
        n_codes: Number of codes.
        widths: Number of channels of each convolution.
        hidden: Size of the feature.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 32, 32),
        n_out: int = 5,
        n_codes: int = 10,
        widths: tuple[int, ...] = (16, 32, 64),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        check_counts(1, shape=shape, n_out=n_out, n_codes=n_codes, widths=widths, hidden=hidden)
        height, width = _halved(shape, len(widths))
        self.shape, self.n_out, self.n_codes = shape, n_out, n_codes
        n_in = shape[0]
        for i, c in enumerate(widths):
            self.add_module(f"conv{i + 1}", conv_norm_relu(n_in, c, kernel=4, stride=2))
            n_in = c
        self.features = _dense(n_in * height * width, hidden)
        self.code = nn.Linear(hidden, n_codes)
        self.head = nn.Linear(n_codes, n_out)

    def encode(self, images: Image) -> Sample:
        """Codes `[b n_codes]`."""
        x = images
        for name, layer in self.named_children():
            if name != "head":
                x = layer(x)
        return x

    def forward(self, images: Image) -> Sample:
        return self.head(self.encode(images))


class SmallSegmenter(nn.Module):
    """Small DeepLabV3+: encoder, atrous pyramid, decoder with early features (Chen et al. 2018).

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
        check_counts(1, channels=shape[0], n_classes=n_classes, width=width, rates=rates)
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


def conv_norm_relu(
    n_in: int, n_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution that keeps the size except for its stride, batch norm and ReLU."""
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(n_out), relu=nn.ReLU()))


def _dense(n_in: int, n_out: int) -> nn.Sequential:
    parts = OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(n_in, n_out), relu=nn.ReLU())
    return nn.Sequential(parts)


def _halved(shape: tuple[int, int, int], times: int) -> tuple[int, int]:
    """Height and width after that many halvings, rounded down."""
    height, width = shape[1] >> times, shape[2] >> times
    if min(height, width) < 1:
        raise InputError(
            f"got images of {shape[1]} × {shape[2]}, of which {times} halvings leave nothing; "
            "take fewer layers"
        )
    return height, width
