"""SRVP: stochastic latent residual video prediction (Franceschi et al. 2020; SRVP slides)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from common.errors import InputError
from common.nn.mlp import MLP
from common.typing import Codes, Mask, Times, Video, Videos
from video_ode.dynamics.base import DynamicsFactory, PiecewiseContext
from video_ode.elbo import gaussian, kl, negative_log_likelihood
from video_ode.frames.base import DecoderFactory, EncoderFactory, Shape, Skips
from video_ode.predictor import VideoPredictor, check_ascending, frame_units


class Content(NamedTuple):
    """What doesn't move: the content variable `w`, and feature maps of a frame."""

    w: Tensor
    skips: Skips


class SRVP(VideoPredictor):
    """A state-space model whose state takes residual steps, driven by a random variable a frame.

    `y₁ ~ N(0, I)`, `z_{t+1} ~ N(μ(y_t), σ(y_t))`, `y_{t+1} = y_t + f(y_t, z_{t+1})`,
    `x_t ~ N(g(w, y_t), scale²)`, with the inference
    `q(y₁ | x_{1:k}) ∏ₜ q(z_t | x_{1:t})` and the content `w` from k frames (SRVP slides, "Model").

    The dynamics are injected: `ResidualEuler` is the paper's, `GRU` and `MLPDynamics` its
    ablations, any other can stand there.

    Args:
        shape: Channels, height and width of a frame.
        encoder: From the shape to the encoder of a frame.
        decoder: From shape, size of `(w, y)` and `skips` to the decoder of a frame.
        dynamics: From the sizes of `y` and `z` to the dynamics.
        y_size: Length of the state.
        z_size: Length of the random variable of a frame; 0 leaves it out (the ablation "w/o z").
        n_inference: Frames k that `y₁` and `w` are inferred from.
        hidden: Units of the inference networks, and length of `w`.
        prior_width: Units of the prior's hidden layers.
        skips: Decoder with skip connections, from one frame to all.
        scale: Standard deviation of a pixel.
        beta_y: Weight of the divergence of `y₁`.
        beta_z: Weight of the divergences of the `z`.
        residual_weight: Weight of the norms of the residuals.
        annealing: Share of training over which the divergences' weights grow from 0.01 of theirs.
        shortest: Frames of a training video at the start of training, the rest being cut off;
            they grow to all over the share `growth` of training. All from the start if none.
        growth: See `shortest`.
        decoded: Training decodes so many of the frames, drawn at random, and weights their
            likelihood up: an unbiased estimate of the whole at less cost. All of them if none.
    """

    def __init__(
        self,
        shape: Shape,
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
    ) -> None:
        super().__init__()
        self.shape, self.y_size, self.z_size = shape, y_size, z_size
        self.n_inference, self.skips = n_inference, skips
        self.encoder = encoder(shape)
        code = self.encoder.code_size
        self.decoder = decoder(shape, hidden + y_size, skips)
        self.project = nn.Sequential(nn.Linear(code, hidden), nn.ReLU())
        self.content = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.first = MLP(n_inference * code, hidden, 2 * y_size, 3)
        self.dynamics = dynamics(y_size, z_size)
        if z_size:
            self.recurrent = nn.LSTM(code, hidden, batch_first=True)
            self.posterior = nn.Linear(hidden, 2 * z_size)
            self.prior = MLP(y_size, prior_width, 2 * z_size, 4)
        self.scale, self.beta_y, self.beta_z = scale, beta_y, beta_z
        self.residual_weight, self.annealing = residual_weight, annealing
        self.shortest, self.growth, self.decoded = shortest, growth, decoded

    # Training -------------------------------------------------------------------------------

    def loss(
        self, video: Video, times: Times, mask: Mask, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative ELBO of a video in nats, and its parts (Franceschi et al. 2020, eq. 10).

        `Σ -log p(x_t) + β_y KL(q(y₁) ‖ N(0, I)) + β_z Σ KL(q(z_t) ‖ p(z_t | y_{t-1}))`, and
        `residual_weight · Σ ‖y_{s+1} - y_s‖₂` over the steps s that the dynamics take.
        """
        n = self._length(video.shape[1], progress)
        video = video[:, :n]
        frame_units(times[:n], times[:1], mask[:, :n], "SRVP")
        codes, features = self._encode(video)
        content = self._random_content(codes, features)
        q_first, q_z = self._posteriors(codes)
        z = q_z.rsample() if q_z else None
        path, steps, kl_path = self._inferred_path(q_first.rsample(), z, n)
        kl_path = kl_path.mean()
        chosen = torch.randperm(n)[: self.decoded] if self.decoded else torch.arange(n)
        nll = negative_log_likelihood(
            self.decode(path[:, chosen], content), video[:, chosen], self.scale
        )
        terms = {
            "nll": nll.flatten(1).sum(1).mean() * (n / len(chosen)),
            "kl_y": kl(q_first).mean(),
            "residual": steps.norm(dim=-1).sum(1).mean(),
        }
        share = 1.0 if progress >= self.annealing else max(0.01, progress / self.annealing)
        loss = terms["nll"] + share * self.beta_y * terms["kl_y"]
        loss = loss + self.residual_weight * terms["residual"] + share * kl_path
        if q_z is not None:
            terms["kl_z"] = kl(q_z, gaussian(self.prior(path[:, :-1]))).mean()
            loss = loss + share * self.beta_z * terms["kl_z"]
        return loss, terms

    def _length(self, n_frames: int, progress: float) -> int:
        if self.shortest is None or progress >= self.growth:
            return n_frames
        shortest = max(self.shortest, self.n_inference)
        return min(n_frames, shortest + int(progress / self.growth * (n_frames - shortest + 1)))

    def _random_content(self, codes: Codes, features: Skips) -> Content:
        """From k distinct frames of each video, drawn at random; the skips from one."""
        b, t = codes.shape[:2]
        drawn = torch.rand(b, t, device=codes.device).argsort(1)[:, : self.n_inference]
        frames = codes.gather(1, drawn[..., None].expand(-1, -1, codes.shape[-1]))
        one = torch.randint(t, (b,), device=codes.device) if self.skips else drawn[:, 0]
        return self._content(frames, features, one)

    def _inferred_path(
        self, first: Tensor, z: Tensor | None, n_frames: int
    ) -> tuple[Codes, Codes, Tensor]:
        """The states at the frames, the steps between them, and what the path costs in nats."""
        k = self.dynamics.steps
        times = torch.arange((n_frames - 1) * k + 1, dtype=torch.float64) / k
        path = self.dynamics(first, times, None if z is None else PiecewiseContext(z))
        return path.states[:, ::k], path.states.diff(dim=1), path.kl

    # Prediction -----------------------------------------------------------------------------

    def predict(
        self,
        video: Video,
        times: Times,
        target_times: Times,
        n_samples: int = 1,
        mask: Mask | None = None,
    ) -> Videos:
        """Samples at any times from the first given frame on."""
        return self.generate(video, times, target_times, n_samples, self.content_of(video), mask)

    def generate(
        self,
        video: Video,
        times: Times,
        target_times: Times,
        n_samples: int,
        content: Content,
        mask: Mask | None = None,
    ) -> Videos:
        """Samples that move as the video does, and look like the content, of whatever video."""
        states = self.states(video, times, target_times, n_samples, mask)
        return torch.stack([self.decode(y, content) for y in states])

    def states(
        self,
        video: Video,
        times: Times,
        target_times: Times,
        n_samples: int = 1,
        mask: Mask | None = None,
    ) -> Tensor:
        """States `[s b k y]`: inferred while frames are given, then by the prior.

        Args:
            video: The given frames.
            times: Their times, evenly spaced.
            target_times: Ascending, none before the first given frame.
            n_samples: Samples of each.
            mask: Must be full.
        """
        check_ascending(target_times, "target_times")
        units = frame_units(times, target_times, mask, "SRVP")
        q_first, q_z = self._posteriors(self._encode(video)[0])
        y = q_first.sample((n_samples,)).flatten(0, 1)
        z = q_z.sample((n_samples,)).flatten(0, 1) if q_z else None
        states = [y[:, None]] if float(units[0]) <= 0 else []
        for i in range(math.ceil(float(units[-1]))):
            inside = units[(units > i) & (units < i + 1)]
            knots = torch.cat([units.new_tensor([i]), inside, units.new_tensor([i + 1])])
            piece = self.dynamics(y, knots, self._variable(y, z, i)).states
            y = piece[:, -1]
            states.append(piece[:, 1:] if bool((units == i + 1).any()) else piece[:, 1:-1])
        return torch.cat(states, 1).unflatten(0, (n_samples, -1))

    def interpolate(
        self, video: Video, other: Video, times: Times, target_times: Times, shares: Tensor
    ) -> Videos:
        """Videos `[s b k c h w]` on the way from one motion to another, `shares` `[s]` of it.

        All have the content of `video`; the states are mixed linearly (Franceschi et al. 2020,
        section 5, "Interpolation of dynamics").
        """
        a = self.states(video, times, target_times)[0]
        b = self.states(other, times, target_times)[0]
        content = self.content_of(video)
        return torch.stack([self.decode(torch.lerp(a, b, share), content) for share in shares])

    def content_of(self, video: Video) -> Content:
        """From the last k frames; the skips from the last."""
        codes, features = self._encode(video)
        last = torch.full((len(video),), video.shape[1] - 1, device=video.device)
        return self._content(codes[:, -self.n_inference :], features, last)

    def decode(self, states: Codes, content: Content) -> Video:
        """Frames `[b t c h w]` of states `[b t y]`."""
        b, t = states.shape[:2]
        codes = torch.cat([content.w[:, None].expand(-1, t, -1), states], -1).flatten(0, 1)
        skips = [s[:, None].expand(-1, t, -1, -1, -1).flatten(0, 1) for s in content.skips]
        return self.decoder(codes, skips).unflatten(0, (b, t))

    def _variable(self, y: Tensor, z: Tensor | None, interval: int) -> Tensor | None:
        """What drives the state to the next frame: inferred while frames are given."""
        if z is None:
            return None
        if interval < z.shape[1]:
            return z[:, interval]
        return gaussian(self.prior(y)).sample()

    # Inference ------------------------------------------------------------------------------

    def _encode(self, video: Video) -> tuple[Codes, Skips]:
        """Codes `[b t d]` and feature maps `[b t c h w]`."""
        size = video.shape[:2]
        codes, features = self.encoder(video.flatten(0, 1))
        kept = features if self.skips else []
        return codes.unflatten(0, size), [f.unflatten(0, size) for f in kept]

    def _content(self, codes: Codes, features: Skips, frame: Tensor) -> Content:
        rows = torch.arange(len(codes), device=codes.device)
        w = self.content(self.project(codes).sum(1))
        return Content(w, [f[rows, frame] for f in features])

    def _posteriors(self, codes: Codes) -> tuple[Normal, Normal | None]:
        """`q(y₁)`, and `q(z_t)` for every frame but the first."""
        k = self.n_inference
        if codes.shape[1] < k:
            raise InputError(
                f"got {codes.shape[1]} frames, the first state is inferred from n_inference {k}; "
                "give more frames or lower predictor.n_inference"
            )
        q_first = gaussian(self.first(codes[:, :k].flatten(1)))
        if not self.z_size:
            return q_first, None
        return q_first, gaussian(self.posterior(self.recurrent(codes)[0][:, 1:]))
