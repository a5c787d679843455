"""A tiny video GAN, written as a user would: generator, critic, and a system of two players."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from common.training.system import ManualSystem, Player
from video_ode.dynamics.base import DynamicsFactory
from video_ode.predictor import VideoGenerator, to_unit


class LatentGenerator(VideoGenerator):
    """Frames decoded from a latent path that starts at a normal vector."""

    def __init__(self, shape: tuple[int, int, int], dynamics: DynamicsFactory, size: int = 4):
        super().__init__()
        self.shape, self.size, self.dynamics = shape, size, dynamics(size, 0)
        self.decoder = nn.Linear(size, shape[0] * shape[1] * shape[2])

    def generate(self, n: int, times: Tensor) -> Tensor:
        times = self.checked(n, times)
        z0 = torch.randn(n, self.size, device=times.device)
        frames = self.decoder(self.dynamics(z0, times).states).sigmoid()
        return frames.unflatten(-1, self.shape)


class VideoGAN(ManualSystem):
    """Logistic GAN of videos."""

    def __init__(self, generator: VideoGenerator, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.generator, self.lr = generator, lr
        c, h, w = generator.shape
        self.critic = nn.Sequential(nn.Flatten(2), nn.Linear(c * h * w, 1))  # frame by frame

    def players(self) -> dict[str, Player]:
        adam = partial(torch.optim.Adam, lr=self.lr)
        return {"critic": Player(self.critic, adam), "generator": Player(self.generator, adam)}

    def loss(self, player: str, clip):
        fake = self.critic(self.generator.generate(len(clip.frames), clip.times))
        if player == "generator":
            return softplus(-fake).mean(), {}
        real = self.critic(to_unit(clip.frames))
        return softplus(fake).mean() + softplus(-real).mean(), {"margin": (real - fake).mean()}

    def generate(self, n: int, times: Tensor) -> Tensor:
        return self.generator.generate(n, times)

    def validation_step(self, clip, batch_idx: int) -> None:
        fake = self.generate(len(clip.frames), clip.times)
        gap = (fake.mean((0, 1)) - to_unit(clip.frames).mean((0, 1))).square().mean()
        self.log("val/gap", gap, sync_dist=True)

    def test_step(self, clip, batch_idx: int) -> None:
        """Nothing: `Evaluation` asks for generated videos by itself."""
