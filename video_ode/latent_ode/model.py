"""Latent ODE: simple video generation by a neural ODE (Predoc III, chapter 4)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from common.errors import InputError
from common.typing import Codes, Mask, Times, Video, Videos
from video_ode.dynamics.base import DynamicsFactory
from video_ode.elbo import Likelihood, gaussian, kl, negative_log_likelihood
from video_ode.frames.base import DecoderFactory, EncoderFactory, Shape
from video_ode.latent_ode.encoders import SequenceEncoderFactory
from video_ode.predictor import VideoPredictor, check_ascending


class LatentODE(VideoPredictor):
    """Frames are decoded, each alone, from a latent path through a random first state.

    `z(t₀) ~ q(· | x)` from a recurrent encoder of the given frames, `z(tᵢ)` along the dynamics,
    `x̂(tᵢ) ~ p(· | z(tᵢ))` (Predoc III, eq. 4.1-4.3). The loss is the negative ELBO of eq. 4.4,

        mean over frames of -log p(xₜ | zₜ) + kl_weight · (KL(q(z₀) ‖ N(0, I)) + KL of the path)

    in nats a video. The mean, in place of the sum, keeps the balance of the two while the
    videos grow.

    Args:
        shape: Channels, height and width of a frame.
        encoder: From the shape to the encoder of a frame.
        recurrent: From the size of a code to the encoder of a sequence.
        decoder: From shape and latent size to the decoder of a frame.
        dynamics: From latent size and 0 to the latent dynamics.
        latent_size: Length of the latent state.
        train_on: The frames in the loss: those `given`, as the report insists (section 4.3), or
            `all`, the ones to be predicted too.
        growth: Share of training over which the videos, what is encoded and what is in the loss,
            grow from two frames to all of them.
        prefix: Share of training steps in which the encoder sees only the beginning of the given
            frames, of random length: the others must then be extrapolated, without any frame
            beyond the given ones ever being used.
        consistency: Weight, where more than four frames are encoded, of `|z(tₛ) - μₛ|²`: the
            state that the dynamics reach at a random later frame, and the mean inferred from the
            frames from there on. What they reach is then a state that they can go on from.
        decoded: Training decodes so many of the frames in the loss, drawn at random: an unbiased
            estimate of the whole at less cost. All of them if none.
        likelihood: Of a frame.
        scale: Standard deviation of the Gaussian likelihood.
        kl_weight: Of the divergences.
    """

    def __init__(
        self,
        shape: Shape,
        encoder: EncoderFactory,
        recurrent: SequenceEncoderFactory,
        decoder: DecoderFactory,
        dynamics: DynamicsFactory,
        latent_size: int = 48,
        train_on: Literal["given", "all"] = "given",
        growth: float = 0.0,
        prefix: float = 0.0,
        consistency: float = 0.0,
        decoded: int | None = None,
        likelihood: Likelihood = "gaussian",
        scale: float = 1.0,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not (0 <= growth <= 1 and 0 <= prefix <= 1):
            raise InputError(f"got growth {growth} and prefix {prefix}; give shares from 0 to 1")
        self.shape = shape
        self.encoder = encoder(shape)
        self.recurrent = recurrent(self.encoder.code_size)
        features = self.recurrent.out_features + 2 * self.encoder.code_size
        self.posterior = nn.Linear(features, 2 * latent_size)
        nn.init.constant_(self.posterior.bias[latent_size:], -3.0)  # little noise to begin with
        self.dynamics = dynamics(latent_size, 0)
        self.decoder = decoder(shape, latent_size, False)
        self.train_on, self.growth = train_on, growth
        self.prefix, self.consistency, self.decoded = prefix, consistency, decoded
        self.likelihood: Likelihood = likelihood
        self.scale, self.kl_weight = scale, kl_weight

    def encode(self, video: Video, times: Times, mask: Mask | None = None) -> Normal:
        """`q(z(t₀) | x)`, `t₀` the first of the times."""
        if mask is None:
            mask = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
        return self._posterior(self._codes(video, mask), times, mask)

    def _codes(self, video: Video, mask: Mask) -> Codes:
        if bool(mask.all()):
            return self.encoder(video.flatten(0, 1))[0].unflatten(0, mask.shape)
        seen = self.encoder(video[mask])[0]  # unobserved frames would spoil the batch norms
        codes = seen.new_zeros(*mask.shape, seen.shape[-1])
        codes[mask] = seen
        return codes

    def _posterior(self, codes: Codes, times: Times, mask: Mask) -> Normal:
        # Beside the motion, what a video looks like: in its first frame and on the whole.
        rows = torch.arange(len(codes), device=codes.device)
        first = codes[rows, mask.byte().argmax(1)]
        mean = (codes * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        features = torch.cat([self.recurrent(codes, times, mask), first, mean], -1)
        return gaussian(self.posterior(features))

    def decode(self, states: Tensor) -> Video:
        """Frames `[b t c h w]` of states `[b t d]`."""
        return self.decoder(states.flatten(0, 1)).unflatten(0, states.shape[:2])

    def loss(
        self, video: Video, times: Times, mask: Mask, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        horizon = self._length(n_cond if self.train_on == "given" else len(times), progress)
        shown = self._shown(min(n_cond, horizon))
        codes = self._codes(video[:, :shown], mask[:, :shown])
        q = self._posterior(codes, times[:shown], mask[:, :shown])
        path = self.dynamics(q.rsample(), times[:horizon])
        chosen = torch.arange(horizon)
        if self.decoded:
            chosen = torch.randperm(horizon)[: self.decoded]
        seen = mask[:, chosen]
        nll = negative_log_likelihood(
            self.decode(path.states[:, chosen]), video[:, chosen], self.scale, self.likelihood
        ).flatten(2)
        reconstruction = (nll.sum(2) * seen).sum() / seen.sum().clamp(min=1)
        divergence = (kl(q) + path.kl).mean()
        terms = {"nll": reconstruction, "kl": divergence}
        loss = reconstruction + self.kl_weight * divergence
        if self.consistency and shown > 4:
            start = int(torch.randint(1, shown - 3, ()))
            rest = mask[:, start:shown]
            later = self._posterior(codes[:, start:], times[start:shown], rest)
            gap = (path.states[:, start] - later.loc).square().sum(1)[rest.any(1)]
            terms["gap"] = gap.sum() / max(1, len(gap))
            loss = loss + self.consistency * terms["gap"]
        return loss, terms

    def predict(
        self,
        video: Video,
        times: Times,
        target_times: Times,
        n_samples: int = 1,
        mask: Mask | None = None,
    ) -> Videos:
        """Samples at any times; before the first given frame if the dynamics can go back."""
        check_ascending(times)
        check_ascending(target_times, "target_times")
        q = self.encode(video, times, mask)
        return torch.stack(
            [
                self.decode(self._path(q.sample(), times[:1], target_times))
                for _ in range(n_samples)
            ]
        )

    def _path(self, z0: Tensor, start: Times, targets: Times) -> Tensor:
        early, late = targets[targets < start].flip(0), targets[targets > start]
        states = []
        if len(early):
            states.append(self.dynamics(z0, torch.cat([start, early])).states[:, 1:].flip(1))
        if bool((targets == start).any()):
            states.append(z0[:, None])
        if len(late):
            states.append(self.dynamics(z0, torch.cat([start, late])).states[:, 1:])
        return torch.cat(states, 1)

    def _length(self, n_frames: int, progress: float) -> int:
        """Frames of a training video."""
        if progress >= self.growth or n_frames < 2:
            return n_frames
        return 2 + int(progress / self.growth * (n_frames - 1))

    def _shown(self, n_cond: int) -> int:
        """How many frames the encoder sees in this step."""
        shortest = max(4, n_cond * 2 // 5)
        if n_cond <= shortest or float(torch.rand(())) >= self.prefix:
            return n_cond
        return int(torch.randint(shortest, n_cond, ()))
