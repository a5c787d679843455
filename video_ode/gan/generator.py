"""Generators of videos: frames decoded from a content and from a motion, a latent path."""

import abc
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from common.errors import check_counts
from common.inputs import ArrayLike
from common.typing import ImageShape, Sample, Times, Video, Videos
from video_ode.dynamics.base import Dynamics, DynamicsFactory
from video_ode.frames.base import DecoderFactory
from video_ode.gan.critic import View
from video_ode.predictor import VideoGenerator, finite

Prior = Literal["normal", "uniform"]


class Latents(NamedTuple):
    """Random variables from which videos are generated.

    Attributes:
        content: What does not change, `[n d]`.
        start: State of the motion at time 0, `[n …]`.
    """

    content: Sample
    start: Sample


class AdversarialGenerator(VideoGenerator):
    """Generator that a `VideoGANModule` trains: videos are played from random variables.

    Attributes:
        dynamics: Temporal generator.
    """

    dynamics: Dynamics

    @abc.abstractmethod
    def views(self, n: int, times: Times) -> list[View]:
        """Generated views of clips with these times, coarsest first, for the critics."""

    @abc.abstractmethod
    def draw(self, n: int) -> Latents:
        """Random variables of `n` videos."""

    @abc.abstractmethod
    def play(self, latents: Latents, times: Times) -> Video:
        """Videos `[n t c h w]` in `[0, 1]` of these random variables, at any times.

        Args:
            latents: Random variables; dynamics that are random draw their noise in every call.
            times: Ascending times, `[t]`, in frames; those below 0 are before the first frame.
        """

    def generate(self, n: int, times: ArrayLike) -> Video:
        times = self.checked(n, times)
        return self.play(self.draw(n), times)

    def replay(self, n: int, times: ArrayLike, n_samples: int) -> Videos:
        """Motions `[s n t c h w]` of `n` videos: each has one content and one first state."""
        times, latents = self.checked(n, times), self.draw(n)
        return torch.stack([self.play(latents, times) for _ in range(n_samples)])


class LatentVideoGenerator(AdversarialGenerator):
    """Generator of TGAN and MoCoGAN: content and motion, a path of any `Dynamics`, are decoded.

    `x_t = G_i(content, m_t)`, `m_t = G_t(m_0)`: TGAN has one random vector for both (`tied`).

    Args:
        shape: Channels, height and width of a frame.
        dynamics: From the length of the motion and 0 to the temporal generator `G_t`.
        decoder: From shape and length of a code to the image generator `G_i`; a code is the
            content and then the motion.
        motion_size: Length of the motion.
        content_size: Length of the content, unless `tied`.
        prior: Distribution of content and first motion: standard `normal`, or `uniform` from -1
            to 1.
        tied: The first motion is the content, so that both have `motion_size` numbers.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        shape: ImageShape,
        dynamics: DynamicsFactory,
        decoder: DecoderFactory,
        motion_size: int = 16,
        content_size: int = 50,
        prior: Prior = "normal",
        tied: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, motion_size=motion_size)
        check_counts(0, content_size=content_size)
        if tied:
            content_size = motion_size
        self.dynamics = dynamics(motion_size, 0)
        self.decoder = decoder(shape, content_size + motion_size, False)
        self.shape, self.prior, self.tied = shape, prior, tied
        self.sizes = (content_size, motion_size)

    def draw(self, n: int) -> Latents:
        weight = next(self.parameters())
        content, start = (drawn(self.prior, weight.new_empty(n, size)) for size in self.sizes)
        return Latents(content, content if self.tied else start)

    def views(self, n: int, times: Times) -> list[View]:
        places = torch.arange(len(times), device=times.device)
        return [View(self._frames(self.draw(n), times), times, places)]

    @finite(axis=1)
    def play(self, latents: Latents, times: Times) -> Video:
        return self._frames(latents, times)

    def _frames(self, latents: Latents, times: Times) -> Video:
        states = path_from_zero(self.dynamics, latents.start, times)
        content = latents.content[:, None].expand(-1, len(times), -1)
        codes = torch.cat([content, states], 2).flatten(0, 1)
        return self.decoder(codes).unflatten(0, states.shape[:2])


def drawn(prior: Prior, like: Tensor) -> Tensor:
    """Random numbers of a shape: standard normal, or uniform from -1 to 1."""
    return torch.randn_like(like) if prior == "normal" else 2 * torch.rand_like(like) - 1


def real_views(video: Video, views: Sequence[View]) -> list[View]:
    """Views of real clips with the frames and the resolutions of generated views."""
    found = []
    for generated, times, places in views:
        frames, size = video[:, places], generated.shape[-2:]
        if frames.shape[-2:] != size:
            small = adaptive_avg_pool2d(frames.flatten(0, 1), (size[0], size[1]))
            frames = small.unflatten(0, frames.shape[:2])
        found.append(View(frames, times, places))
    return found


def path_from_zero(dynamics: Dynamics, start: Sample, times: Times) -> Tensor:
    """States `[n t …]` at ascending times of a path whose state at time 0 is `start`."""
    return dynamics.states_around(start, times.new_zeros(1), times)
