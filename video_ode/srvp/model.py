"""SRVP: stochastic latent residual video prediction (Franceschi et al. 2020; SRVP slides)."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from common.errors import InputError, check_counts, check_positive, check_shares
from common.inputs import ArrayLike
from common.nn.mlp import MLP, MLPField
from common.typing import Codes, ImageShape, PerSample, Video
from video_ode.content import Content, SeparatingPredictor
from video_ode.dynamics.base import DynamicsFactory, PiecewiseContext
from video_ode.dynamics.residual import ResidualEuler
from video_ode.elbo import gaussian, kl, negative_log_likelihood
from video_ode.frames.base import DecoderFactory, EncoderFactory, Skips
from video_ode.frames.small import SmallEncoder
from video_ode.frames.sprites import SpriteDecoder
from video_ode.predictor import TrainablePredictor, finite


class SRVP(TrainablePredictor, SeparatingPredictor):
    """Stochastic latent residual video prediction: a state-space model with residual steps.

    The model is `y₁ ~ N(0, I)`, `z_{t+1} ~ N(μ(y_t), σ(y_t))`, `y_{t+1} = y_t + f(y_t, z_{t+1})`,
    `x_t ~ N(g(w, y_t), scale²)`. The posterior is `q(y₁ | x_{1:k}) ∏ₜ q(z_t | x_{1:t})`, and the
    content `w` comes from k frames (SRVP slides, "Model").

    The dynamics are injected: `ResidualEuler` is that of the paper, `GRU` and `MLPDynamics` are
    its ablations, and any other dynamics can replace them.

    Args:
        shape: Channels, height and width of a frame.
        encoder: From the shape to the encoder of a frame.
        decoder: From shape, length of `(w, y)` and `skips` to the decoder of a frame.
        dynamics: From the lengths of `y` and `z` to the dynamics.
        y_size: Length of the state.
        z_size: Length of the random variable of a frame; 0: no such variable (the ablation
            "w/o z").
        n_inference: Number of frames k that `y₁` and `w` are inferred from.
        hidden: Number of units of the inference networks, and length of `w`.
        prior_width: Number of units of the prior's hidden layers.
        skips: Use skip connections from the feature maps of one frame to all decoded frames.
        scale: Standard deviation of a pixel.
        beta_y: Weight of the KL divergence of `y₁`.
        beta_z: Weight of the KL divergences of the `z`.
        residual_weight: Weight of the norms of the residuals.
        annealing: Share of the training over which the weights of the KL divergences grow from 1 %
            to 100 % of their values.
        shortest: Number of frames of a training video at the start of training; the other frames
            are cut off, and the number grows to all frames. None: all frames from the start.
        growth: Share of the training over which the number of frames grows, see `shortest`.
        decoded: Number of frames that training decodes, drawn at random. Their likelihood gets a
            larger weight, which gives an unbiased estimate at less cost. None: all frames.
        predicted_steps: Number of Euler steps in each interval after the conditioning frames. The
            intervals between these keep the dynamics' `steps`, those of the training (the authors'
            protocol). None: `steps` everywhere.

    Raises:
        InputError: Numbers out of range, or `predicted_steps` for dynamics without Euler steps.
    """

    def __init__(
        self,
        shape: ImageShape,
        encoder: EncoderFactory,
        decoder: DecoderFactory,
        dynamics: DynamicsFactory,
        y_size: int = 20,
        z_size: int = 20,
        n_inference: int = 5,
        hidden: int = 256,
        prior_width: int = 512,
        skips: bool = False,
        scale: float = 1.0,
        beta_y: float = 1.0,
        beta_z: float = 1.0,
        residual_weight: float = 1.0,
        annealing: float = 0.0,
        shortest: int | None = None,
        growth: float = 0.5,
        decoded: int | None = None,
        predicted_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(1, y_size=y_size, n_inference=n_inference, hidden=hidden, decoded=decoded)
        check_counts(0, z_size=z_size, beta_y=beta_y, beta_z=beta_z, shortest=shortest)
        check_counts(0, residual_weight=residual_weight)
        check_shares(annealing=annealing, growth=growth)
        check_positive(scale=scale)
        self.shape, self.y_size, self.z_size, self.skips = shape, y_size, z_size, skips
        self.encoder = encoder(shape)
        code = self.encoder.code_size
        self.decoder = decoder(shape, hidden + y_size, skips)
        self.project = nn.Sequential(nn.Linear(code, hidden), nn.ReLU())
        self.content = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.first = MLP(n_inference * code, hidden, 2 * y_size, 3)
        self.dynamics = dynamics(y_size, z_size)
        with self.dynamics.stepping(predicted_steps):
            pass  # these dynamics can have another number of steps
        if z_size:
            self.recurrent = nn.LSTM(code, hidden, batch_first=True)
            self.posterior = nn.Linear(hidden, 2 * z_size)
            self.prior = MLP(y_size, prior_width, 2 * z_size, 4)
        self.scale, self.beta_y, self.beta_z, self.n_inference = scale, beta_y, beta_z, n_inference
        self.residual_weight, self.annealing, self.growth = residual_weight, annealing, growth
        self.shortest, self.decoded, self.predicted_steps = shortest, decoded, predicted_steps

    @classmethod
    def small(cls, shape: ImageShape) -> "SRVP":
        """SRVP for two CPU cores: that of `configs/srvp/srvp_digits.yaml`.

        Args:
            shape: Channels, height and width of a frame; the sides are multiples of 8.
        """
        field = partial(MLPField, width=128, layers=4, gain=1.41, last_gain=0.1)
        return cls(
            shape,
            partial(SmallEncoder, widths=(16, 32, 64), code_size=64, pooled=64),
            SpriteDecoder,
            partial(ResidualEuler, field=field),
            y_size=20,
            z_size=10,
            hidden=128,
            prior_width=128,
            scale=0.2,
            beta_z=15.0,
            residual_weight=0.1,
            annealing=0.5,
            shortest=6,
            growth=0.4,
        )

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Negative ELBO of a video in nats, and its parts (Franceschi et al. 2020, eq. 10).

        `Σ -log p(x_t) + β_y KL(q(y₁) ‖ N(0, I)) + β_z Σ KL(q(z_t) ‖ p(z_t | y_{t-1}))`, and
        `residual_weight · Σ ‖y_{s+1} - y_s‖₂` over the steps s that the dynamics take.
        """
        video, _ = self.framewise(video, times, mask=mask)
        n = self._length(video.shape[1], progress)
        video = video[:, :n]
        codes, features = self._encode(video)
        content = self._random_content(codes, features)
        q_first, q_z = self._posteriors(codes)
        z = q_z.rsample() if q_z else None
        path, steps, kl_path = self._inferred_path(q_first.rsample(), z, n)
        chosen = torch.randperm(n)[: self.decoded] if self.decoded else torch.arange(n)
        frames = self.decode(path[:, chosen], content)
        nll = negative_log_likelihood(frames, video[:, chosen], self.scale)
        terms = {
            "nll": nll.flatten(1).sum(1).mean() * (n / len(chosen)),
            "kl_y": kl(q_first).mean(),
            "residual": steps.norm(dim=-1).sum(1).mean(),
        }
        share = 1.0 if progress >= self.annealing else max(0.01, progress / self.annealing)
        loss = terms["nll"] + share * self.beta_y * terms["kl_y"]
        loss = loss + self.residual_weight * terms["residual"] + share * kl_path.mean()
        if q_z is not None:
            terms["kl_z"] = kl(q_z, gaussian(self.prior(path[:, :-1]))).mean()
            loss = loss + share * self.beta_z * terms["kl_z"]
        return loss, terms

    @torch.no_grad()
    def scores(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int
    ) -> dict[str, PerSample]:
        """Terms of the ELBO of all frames from one sample of the posterior, in nats, `[b]` each.

        `nll` is the negative log-likelihood, summed over the frames; `kl` is the sum of all KL
        divergences. The content comes from the conditioning frames.
        """
        video, _ = self.framewise(video, times, mask=mask)
        q_first, q_z = self._posteriors(self._encode(video)[0])
        z = q_z.sample() if q_z else None
        path, _, divergence = self._inferred_path(q_first.sample(), z, video.shape[1])
        frames = self.decode(path, self.content_of(video[:, :n_cond]))
        nll = negative_log_likelihood(frames, video, self.scale)
        divergence = divergence + kl(q_first)
        if q_z is not None:
            divergence = divergence + kl(q_z, gaussian(self.prior(path[:, :-1])))
        return {"nll": nll.flatten(1).sum(1), "kl": divergence}

    def _length(self, n_frames: int, progress: float) -> int:
        if self.shortest is None or progress >= self.growth:
            return n_frames
        shortest = max(self.shortest, self.n_inference)
        return min(n_frames, shortest + int(progress / self.growth * (n_frames - shortest + 1)))

    def _random_content(self, codes: Codes, features: Skips) -> Content:
        """Content from k different random frames of each video; the skips are from one frame."""
        b, t = codes.shape[:2]
        drawn = torch.rand(b, t, device=codes.device).argsort(1)[:, : self.n_inference]
        frames = codes.gather(1, drawn[..., None].expand(-1, -1, codes.shape[-1]))
        one = torch.randint(t, (b,), device=codes.device) if self.skips else drawn[:, 0]
        return self._content(frames, features, one)

    def _inferred_path(self, first: Tensor, z: Tensor | None, n: int) -> tuple[Tensor, ...]:
        """States at the frames, residuals of all steps, and path KL divergence `[b]` in nats."""
        k = self.dynamics.steps
        times = torch.arange((n - 1) * k + 1, dtype=torch.float64) / k
        path = self.dynamics(first, times, None if z is None else PiecewiseContext(z))
        return path.states[:, ::k], path.states.diff(dim=1), path.kl

    @finite(axis=2)
    def states(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Tensor:
        """States `[s b k y]`: inferred at the conditioning frames, later from the prior.

        Arguments as in `predict`; the conditioning frames must all be observed and evenly spaced,
        at the same times for all videos, and no target time is before the first of them.
        """
        video, units = self.framewise(video, times, target_times, n_samples, mask)
        q_first, q_z = self._posteriors(self._encode(video)[0])
        y = q_first.sample((n_samples,)).flatten(0, 1)
        z = q_z.sample((n_samples,)).flatten(0, 1) if q_z else None
        states = [y[:, None]] if float(units[0]) <= 0 else []
        for i in range(math.ceil(float(units[-1]))):
            inside = units[(units > i) & (units < i + 1)]
            knots = torch.cat([units.new_tensor([i]), inside, units.new_tensor([i + 1])])
            with self.dynamics.stepping(self.predicted_steps if i >= video.shape[1] - 1 else None):
                piece = self.dynamics(y, knots, self._variable(y, z, i)).states
            y = piece[:, -1]
            states.append(piece[:, 1:] if bool((units == i + 1).any()) else piece[:, 1:-1])
        return torch.cat(states, 1).unflatten(0, (n_samples, -1))

    def content_of(self, video: ArrayLike) -> Content:
        """Content from the last k frames; the skips are from the last frame."""
        codes, features = self._encode(video := self.as_frames(video))
        last = torch.full((len(video),), video.shape[1] - 1, device=video.device)
        return self._content(codes[:, -self.n_inference :], features, last)

    def decode(self, states: Codes, content: Content) -> Video:
        """Decoded frames `[b t c h w]` of states `[b t y]`."""
        code, skips = self.repeated(content, states)
        codes = torch.cat([code, states.flatten(0, 1)], -1)
        return self.decoder(codes, skips).unflatten(0, states.shape[:2])

    def _variable(self, y: Tensor, z: Tensor | None, interval: int) -> Tensor | None:
        """Random variable of the step to the next frame: inferred, or later from the prior."""
        if z is None:
            return None
        if interval < z.shape[1]:
            return z[:, interval]
        return gaussian(self.prior(y)).sample()

    def _encode(self, video: Video) -> tuple[Codes, Skips]:
        """Codes `[b t d]` and feature maps `[b t c h w]`."""
        size, k = video.shape[:2], self.n_inference
        if size[1] < k:
            raise InputError(
                f"got {size[1]} frames, but SRVP infers from n_inference {k} frames; give more "
                "frames or lower predictor.n_inference"
            )
        codes, features = self.encoder(video.flatten(0, 1))
        kept = features if self.skips else []
        return codes.unflatten(0, size), [f.unflatten(0, size) for f in kept]

    def _content(self, codes: Codes, features: Skips, frame: Tensor) -> Content:
        rows = torch.arange(len(codes), device=codes.device)
        w = self.content(self.project(codes).sum(1))
        return Content(w, [f[rows, frame] for f in features])

    def _posteriors(self, codes: Codes) -> tuple[Normal, Normal | None]:
        """Posteriors `q(y₁)`, and `q(z_t)` of every frame but the first."""
        q_first = gaussian(self.first(codes[:, : self.n_inference].flatten(1)))
        if not self.z_size:
            return q_first, None
        return q_first, gaussian(self.posterior(self.recurrent(codes)[0][:, 1:]))
