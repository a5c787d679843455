"""Latent ODE: video prediction by a neural ODE in a latent space (Predoc III, chapter 4)."""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from common.errors import InputError, check_counts, check_positive, check_shares
from common.inputs import ArrayLike
from common.nn.mlp import MLPField
from common.ode.solve import Solver
from common.typing import Codes, ImageShape, Mask, PerSample, Times, Video, Videos, VideoTimes
from video_ode.dynamics.base import DynamicsFactory
from video_ode.dynamics.ode import NeuralODE
from video_ode.elbo import PixelLikelihood, gaussian, kl, negative_log_likelihood
from video_ode.frames.base import DecoderFactory, EncoderFactory
from video_ode.frames.small import SmallEncoder
from video_ode.frames.sprites import SpriteDecoder
from video_ode.latent_ode.encoders import GRUEncoder, SequenceEncoderFactory
from video_ode.predictor import TrainablePredictor, finite


class LatentODE(TrainablePredictor):
    """Latent ODE: each frame is decoded from a latent path that starts at a random first state.

    A recurrent encoder of the conditioning frames gives the first state, `z(t₀) ~ q(· | x)`. The
    dynamics give the states `z(tᵢ)`, and the decoder the frames `x̂(tᵢ) ~ p(· | z(tᵢ))` (Predoc
    III, eq. 4.1-4.3). The loss is the negative ELBO of eq. 4.4,

        mean over frames of -log p(xₜ | zₜ) + kl_weight · (KL(q(z₀) ‖ N(0, I)) + KL of the path)

    in nats for each video. Eq. 4.4 has the sum over frames; the mean keeps the balance of the
    two terms when the number of frames grows during training.

    Args:
        shape: Channels, height and width of a frame.
        encoder: From the shape to the encoder of a frame.
        recurrent: From the length of a code to the encoder of a sequence.
        decoder: From shape and latent size to the decoder of a frame.
        dynamics: From latent size and 0 to the latent dynamics.
        latent_size: Length of the latent state.
        train_on: Frames in the loss: `given`, the conditioning frames only, as the report
            demands (section 4.3); or `all`, also the frames to be predicted.
        growth: Share of the training over which the number of training frames grows from two to
            all.
        prefix: Share of the training steps in which the encoder sees only the first conditioning
            frames, a random number of them. The model must then extrapolate to the other
            conditioning frames; no later frame is ever used.
        consistency: Weight of `|z(tₛ) - μₛ|²` at a random later frame s: the squared distance
            between the state of the path and the mean that is inferred from the frames from s on.
            The term is used if more than four frames are encoded.
        decoded: Number of frames of the loss that training decodes, drawn at random: an unbiased
            estimate at less cost. None: all of them.
        likelihood: Likelihood of a pixel.
        scale: Standard deviation of the Gaussian likelihood.
        kl_weight: Weight of the KL divergences.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        shape: ImageShape,
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
        likelihood: PixelLikelihood = "gaussian",
        scale: float = 1.0,
        kl_weight: float = 1.0,
    ) -> None:
        super().__init__()
        check_counts(1, latent_size=latent_size, decoded=decoded)
        check_counts(0, consistency=consistency, kl_weight=kl_weight)
        check_shares(growth=growth, prefix=prefix)
        check_positive(scale=scale)
        self.shape = shape
        self.encoder = encoder(shape)
        self.recurrent = recurrent(self.encoder.code_size)
        features = self.recurrent.out_features + 2 * self.encoder.code_size
        self.posterior = nn.Linear(features, 2 * latent_size)
        nn.init.constant_(self.posterior.bias[latent_size:], -3.0)  # little noise at first
        self.dynamics = dynamics(latent_size, 0)
        self.decoder = decoder(shape, latent_size, False)
        self.train_on, self.growth = train_on, growth
        self.prefix, self.consistency, self.decoded = prefix, consistency, decoded
        self.likelihood: PixelLikelihood = likelihood
        self.scale, self.kl_weight = scale, kl_weight

    @classmethod
    def small(cls, shape: ImageShape) -> "LatentODE":
        """Latent ODE for two CPU cores: that of `configs/latent_ode/latent_ode_digits.yaml`.

        Args:
            shape: Channels, height and width of a frame; the sides are multiples of 8.
        """
        field = partial(MLPField, activation="silu", last_gain=0.1)
        solver = Solver("midpoint", step_size=1.0)
        return cls(
            shape,
            partial(SmallEncoder, pooled=64),
            GRUEncoder,
            SpriteDecoder,
            partial(NeuralODE, field=field, solver=solver, order=2, static_size=48),
            latent_size=64,
            growth=0.4,
            prefix=0.5,
            consistency=0.5,
            likelihood="bernoulli",
            kl_weight=0.005,
        )

    def encode(self, video: Video, times: Times | VideoTimes, mask: Mask | None = None) -> Normal:
        """Posterior `q(z(t₀) | x)` of the state at the first time `t₀`.

        Args:
            video: Conditioning frames, `[b t c h w]` in `[0, 1]`.
            times: Times of these frames, ascending, `[t]` or `[b t]`.
            mask: Mask of the observed frames, `[b t]`. None: all are observed.
        """
        if mask is None:
            mask = torch.ones(video.shape[:2], dtype=torch.bool, device=video.device)
        return self._posterior(self._codes(video, mask), times, mask)

    def _codes(self, video: Video, mask: Mask) -> Codes:
        if bool(mask.all()):
            return self.encoder(video.flatten(0, 1))[0].unflatten(0, mask.shape)
        seen = self.encoder(video[mask])[0]  # unobserved frames would distort the batch norms
        codes = seen.new_zeros(*mask.shape, seen.shape[-1])
        codes[mask] = seen
        return codes

    def _posterior(self, codes: Codes, times: Times | VideoTimes, mask: Mask) -> Normal:
        # The recurrent encoder gives the motion; the first code and the mean code give the
        # appearance.
        rows = torch.arange(len(codes), device=codes.device)
        first = codes[rows, mask.byte().argmax(1)]
        mean = (codes * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        features = torch.cat([self.recurrent(codes, times, mask), first, mean], -1)
        return gaussian(self.posterior(features))

    def decode(self, states: Tensor) -> Video:
        """Decoded frames `[b t c h w]` of states `[b t d]`."""
        return self.decoder(states.flatten(0, 1)).unflatten(0, states.shape[:2])

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        video, times, _, mask = self.checked(video, times, mask=mask)
        _check_given(video, n_cond)
        horizon = self._length(n_cond if self.train_on == "given" else video.shape[1], progress)
        shown = self._shown(min(n_cond, horizon))
        codes = self._codes(video[:, :shown], mask[:, :shown])
        q = self._posterior(codes, times[..., :shown], mask[:, :shown])
        path = self.dynamics(q.rsample(), times[..., :horizon])
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
            later = self._posterior(codes[:, start:], times[..., start:shown], rest)
            gap = (path.states[:, start] - later.loc).square().sum(1)[rest.any(1)]
            terms["gap"] = gap.sum() / max(1, len(gap))
            loss = loss + self.consistency * terms["gap"]
        return loss, terms

    @torch.no_grad()
    def scores(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int
    ) -> dict[str, PerSample]:
        """Terms of the ELBO from one sample of the first state, in nats, `[b]` each.

        `nll` is the negative log-likelihood of a frame, the mean over the observed frames of the
        loss; `kl` is the sum of the KL divergences of the first state and of the path.
        """
        video, times, _, mask = self.checked(video, times, mask=mask)
        _check_given(video, n_cond)
        n = n_cond if self.train_on == "given" else video.shape[1]
        q = self.encode(video[:, :n_cond], times[..., :n_cond], mask[:, :n_cond])
        path = self.dynamics(q.sample(), times[..., :n])
        nll = negative_log_likelihood(
            self.decode(path.states), video[:, :n], self.scale, self.likelihood
        )
        seen = mask[:, :n]
        frames = (nll.flatten(2).sum(2) * seen).sum(1) / seen.sum(1).clamp(min=1)
        return {"nll": frames, "kl": kl(q) + path.kl}

    @finite(axis=2)
    def predict(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Videos:
        """Samples at any times, also before the first frame if the dynamics can run backward."""
        video, times, target_times, mask = self.checked(
            video, times, target_times, n_samples, mask
        )
        q = self.encode(video, times, mask)
        start = times[..., :1].reshape(-1)[:1]
        return torch.stack(
            [self.decode(self._path(q.sample(), start, target_times)) for _ in range(n_samples)]
        )

    @finite(axis=1)
    def _path(self, z0: Tensor, start: Times, targets: Times | VideoTimes) -> Tensor:
        return self.dynamics.states_around(z0, start, targets)

    def _length(self, n_frames: int, progress: float) -> int:
        """Number of frames of a training video."""
        if progress >= self.growth or n_frames < 2:
            return n_frames
        return 2 + int(progress / self.growth * (n_frames - 1))

    def _shown(self, n_cond: int) -> int:
        """Number of frames that the encoder sees in this step."""
        shortest = max(4, n_cond * 2 // 5)
        if n_cond <= shortest or float(torch.rand(())) >= self.prefix:
            return n_cond
        return int(torch.randint(shortest, n_cond, ()))


def _check_given(video: Video, n_cond: int) -> None:
    if not 1 <= n_cond <= video.shape[1]:
        raise InputError(
            f"got n_cond {n_cond} for videos of {video.shape[1]} frames; give 1 to "
            f"{video.shape[1]}"
        )
