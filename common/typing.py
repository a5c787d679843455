"""Named types of tensors, with their shapes; beartype checks them at run time, in the tests only.

Within one call, axes of the same name must have the same length. Therefore only the batch axis `b`
and a few others have a name; `_` is an axis of any length.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

Pixels = UInt8[Tensor, "b _ _ _"]  # images as bytes: channel, height, width
Image = Float[Tensor, "b _ _ _"]  # images as real numbers: inputs of flows, or frames in [0, 1]
ImageShape = tuple[int, int, int]  # channels, height, width
Sample = Float[Tensor, "b ..."]  # a batch of real tensors of any shape
PerSample = Float[Tensor, " b"]  # one number for each sample: log-density, ladj, trace
Time = Float[Tensor, ""]  # a scalar

PixelVideo = UInt8[Tensor, "b _ _ _ _"]  # videos as bytes: time, channel, height, width
Video = Float[Tensor, "b _ _ _ _"]  # videos in [0, 1]
Videos = Float[Tensor, "s b _ _ _ _"]  # `s` samples of each video, in [0, 1]
Codes = Float[Tensor, "b _ d"]  # a vector for each frame
Frames = PixelVideo | Float32[Tensor, "b _ _ _ _"]  # pictures as bytes, or fields as float32
Times = Float[Tensor, " _"]  # times that all videos of a batch share
VideoTimes = Float[Tensor, "b _"]  # own times of each video
Integers = Int64[Tensor, " b"]  # one integer for each sample
Mask = Bool[Tensor, "b _"]  # for each frame of each video, whether it is observed

FlowField = Float[Tensor, "b 2 _ _"]  # optical flow: motion of pixels to the right and down
FlowMask = Bool[Tensor, "b _ _"]  # a yes or no for each pixel

Boxes = Float[Tensor, "_ 4"]  # boxes as x1, y1, x2, y2, in pixels
Flags = Bool[Tensor, " _"]  # a yes or no for each object

FieldFactory = Callable[[int, int], nn.Module]  # (channels, context channels) -> field
