"""A tiny PDE model, written as a user would: its state is a feature map that a field moves."""

import torch
from torch import Tensor, nn

from video_ode.dynamics.base import DynamicsFactory
from video_ode.predictor import TrainablePredictor


class Diffusion(nn.Module):
    """Field `dz/dt = D Δz + f(z)`: a convolution for each channel, and a reaction."""

    def __init__(self, size: int, context_size: int = 0) -> None:
        super().__init__()
        self.spread = nn.Conv2d(size, size, 3, padding=1, groups=size, bias=False)
        self.react = nn.Conv2d(size + context_size, size, 1)

    def forward(self, t: Tensor, z: Tensor, context: Tensor | None = None) -> Tensor:
        known = z if context is None else torch.cat([z, context], 1)
        return 0.1 * (self.spread(z) + self.react(known).tanh())


class PDEModel(TrainablePredictor):
    """Frames encoded to feature maps, moved by a PDE, and decoded, position by position."""

    def __init__(
        self, shape: tuple[int, int, int], dynamics: DynamicsFactory, size: int = 4
    ) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = nn.Conv2d(shape[0], 2 * size, 3, padding=1)
        self.dynamics = dynamics(size, size)
        self.decoder = nn.Conv2d(size, shape[0], 3, padding=1)

    def loss(self, video, times, mask, n_cond, progress):
        video, times, _, mask = self.checked(video, times, mask=mask)
        error = (self._predicted(video[:, 0], times) - video).square().mean()
        return error, {"mse": error.detach()}

    def predict(self, video, times, target_times, n_samples=1, mask=None):
        video, times, target_times, mask = self.checked(
            video, times, target_times, n_samples, mask
        )
        start = times[..., :1].expand(*target_times.shape[:-1], 1)
        late = torch.cat([start, target_times[target_times > start]])
        frames = self._predicted(video[:, 0], late)[:, -len(target_times) :]
        return frames.expand(n_samples, *frames.shape)

    def scores(self, video, times, mask, n_cond):
        video, times, _, mask = self.checked(video, times, mask=mask)
        return {"mse": (self._predicted(video[:, 0], times) - video).square().flatten(1).mean(1)}

    def _predicted(self, frame: Tensor, times: Tensor) -> Tensor:
        z0, content = self.encoder(frame).chunk(2, 1)
        states = self.dynamics(z0, times, content).states
        return self.decoder(states.flatten(0, 1)).sigmoid().unflatten(0, states.shape[:2])
