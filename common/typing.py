"""Named shapes; beartype checks them at run time under pytest only.

Axes that share a name are tied together within one call, so only the batch has one.
"""

from collections.abc import Callable

from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

Pixels = UInt8[Tensor, "b _ _ _"]  # images as bytes: channel, height, width
Image = Float[Tensor, "b _ _ _"]  # images in the space that a flow works in
Sample = Float[Tensor, "b ..."]  # a batch of anything
PerSample = Float[Tensor, " b"]  # one number a sample: log-density, ladj, trace
Time = Float[Tensor, ""]

PixelVideo = UInt8[Tensor, "b _ _ _ _"]  # videos as bytes: time, channel, height, width
Video = Float[Tensor, "b _ _ _ _"]  # videos in [0, 1]
Videos = Float[Tensor, "s b _ _ _ _"]  # `s` samples of each
Codes = Float[Tensor, "b _ d"]  # a vector for each frame
Frames = PixelVideo | Float32[Tensor, "b _ _ _ _"]  # pictures as bytes, or fields as float32
Times = Float[Tensor, " _"]  # times that all videos of a batch share
VideoTimes = Float[Tensor, "b _"]  # own times of each video
Integers = Int64[Tensor, " b"]
Mask = Bool[Tensor, "b _"]  # of each video, which frames

FieldFactory = Callable[[int, int], nn.Module]  # (channels, context channels) -> field
