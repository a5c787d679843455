"""SVG-LP: stochastic video generation with a learned prior (Denton and Fergus 2018).

It is the autoregressive baseline of the papers. Each predicted frame is encoded to predict the
next one, so the model knows whole frames only.
"""

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from common.errors import InputError, check_counts
from common.inputs import ArrayLike
from common.typing import Codes, ImageShape, PerSample, Video, Videos
from video_ode.elbo import gaussian, kl
from video_ode.frames.base import DecoderFactory, EncoderFactory, Skips
from video_ode.predictor import TrainablePredictor, finite

LSTMState = tuple[Tensor, Tensor] | None


class SVG(TrainablePredictor):
    """Stochastic video generation with a learned prior, `x̂_t = g(LSTM(h_{t-1}, z_t))`.

    The random variable is `z_t ~ p(z_t | x_{1:t-1})`, and in training `z_t ~ q(z_t | x_{1:t})`.

    Args:
        shape: Channels, height and width of a frame.
        encoder: From the shape to the encoder of a frame, which gives the code h.
        decoder: From shape, length of a code and `skips` to the decoder of a frame.
        z_size: Length of the random variable of a frame.
        hidden: Number of units of the recurrent networks.
        layers: Number of layers of the predictor; prior and posterior have one.
        beta: Weight of the KL divergence of a frame; the mean squared error of a pixel has weight
            1.
    """

    def __init__(
        self,
        shape: ImageShape,
        encoder: EncoderFactory,
        decoder: DecoderFactory,
        z_size: int = 10,
        hidden: int = 256,
        layers: int = 2,
        beta: float = 1e-4,
    ) -> None:
        super().__init__()
        check_counts(1, z_size=z_size, hidden=hidden, layers=layers)
        check_counts(0, beta=beta)
        self.shape, self.beta = shape, beta
        self.encoder = encoder(shape)
        code = self.encoder.code_size
        self.decoder = decoder(shape, code, True)
        self.posterior = _GaussianLSTM(code, hidden, z_size)
        self.prior = _GaussianLSTM(code, hidden, z_size)
        self.embed = nn.Linear(code + z_size, hidden)
        self.predictor = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.out = nn.Sequential(nn.Linear(hidden, code), nn.Tanh())

    def loss(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error of the frames after the first one, plus `β KL` of their `z`.

        Every frame is predicted from the true previous frame, so that all frames are one batch.
        """
        video, _ = self.framewise(video, times, mask=mask)
        frames, q, p = self._teacher_forced(video, n_cond)
        error = (frames - video[:, 1:]).square().mean()
        divergence = kl(q, p).mean() / (video.shape[1] - 1)
        return error + self.beta * divergence, {"mse": error, "kl": divergence}

    @torch.no_grad()
    def scores(
        self, video: ArrayLike, times: ArrayLike, mask: ArrayLike, n_cond: int
    ) -> dict[str, PerSample]:
        """Parts of the loss: `mse` of a pixel and `kl` of a frame, in nats."""
        video, _ = self.framewise(video, times, mask=mask)
        frames, q, p = self._teacher_forced(video, n_cond)
        error = (frames - video[:, 1:]).square().flatten(1).mean(1)
        return {"mse": error, "kl": kl(q, p) / (video.shape[1] - 1)}

    def _teacher_forced(self, video: Video, n_cond: int) -> tuple[Video, Normal, Normal]:
        """Frames after the first one, each from the true previous frame; posterior and prior."""
        codes, features = self._encode(video)
        q, _ = self.posterior(codes[:, 1:])
        p, _ = self.prior(codes[:, :-1])
        predicted, _ = self._predicted(codes[:, :-1], q.rsample())
        # Feature maps of the previous frame, but of no frame after the last conditioning frame:
        # later frames are not known in the evaluation.
        source = torch.arange(video.shape[1] - 1).clamp(max=n_cond - 1)
        return self._decode(predicted, [f[:, source] for f in features]), q, p

    @finite(axis=2)
    def predict(
        self,
        video: ArrayLike,
        times: ArrayLike,
        target_times: ArrayLike,
        n_samples: int = 1,
        mask: ArrayLike | None = None,
    ) -> Videos:
        """Samples of whole frames from the first one on; the first is a copy of the true one."""
        video, units = self.framewise(video, times, target_times, n_samples, mask)
        wanted = units.long()
        if bool((units != wanted).any()):
            raise InputError(
                "SVG knows whole frames only; ask for their times, or use SRVP or a latent ODE"
            )
        n_frames = int(wanted[-1]) + 1
        return torch.stack([self._sample(video, n_frames)[:, wanted] for _ in range(n_samples)])

    def _sample(self, video: Video, n_frames: int) -> Video:
        """The first `n_frames` frames: each from the previous frame, true or predicted.

        True previous frames are used as long as they are conditioning frames.
        """
        n_cond = video.shape[1]
        codes, features = self._encode(video)
        inferred = self.posterior(codes[:, 1:])[0].sample() if n_cond > 1 else None
        frames, code = [video[:, 0]], codes[:, 0]
        prior_state: LSTMState = None
        state: LSTMState = None
        for t in range(1, n_frames):
            p, prior_state = self.prior(code[:, None], prior_state)
            z = p.sample() if inferred is None or t >= n_cond else inferred[:, t - 1 : t]
            predicted, state = self._predicted(code[:, None], z, state)
            maps = [f[:, min(t, n_cond) - 1 : min(t, n_cond)] for f in features]
            frames.append(self._decode(predicted, maps)[:, 0])
            code = codes[:, t] if t < n_cond else self.encoder(frames[-1])[0]
        return torch.stack(frames, 1)

    def _encode(self, video: Video) -> tuple[Codes, Skips]:
        size = video.shape[:2]
        codes, features = self.encoder(video.flatten(0, 1))
        return codes.unflatten(0, size), [f.unflatten(0, size) for f in features]

    def _predicted(
        self, codes: Codes, z: Tensor, state: LSTMState = None
    ) -> tuple[Codes, LSTMState]:
        h, state = self.predictor(self.embed(torch.cat([codes, z], -1)), state)
        return self.out(h), state

    def _decode(self, codes: Codes, features: Skips) -> Video:
        frames = self.decoder(codes.flatten(0, 1), [f.flatten(0, 1) for f in features])
        return frames.unflatten(0, codes.shape[:2])


class _GaussianLSTM(nn.Module):
    """LSTM over codes that gives a Gaussian distribution of the random variable of each frame."""

    def __init__(self, code_size: int, hidden: int, z_size: int) -> None:
        super().__init__()
        self.embed = nn.Linear(code_size, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 2 * z_size)

    def forward(self, codes: Codes, state: LSTMState = None) -> tuple[Normal, LSTMState]:
        h, state = self.lstm(self.embed(codes), state)
        return gaussian(self.out(h)), state
