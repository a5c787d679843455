"""A small set of videos and predictors that know or guess them."""

import torch
from torch import nn

from common.data.videos.base import Clips, VideoData
from video_ode.predictor import TrainablePredictor

SIZE, FRAMES = 32, 8


def truth(number, times):
    """A bright disc that moves to the right, `[t 1 h w]` in `[0, 1]`; any time has its frame."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    across = 6.0 + number % 3 + (1 + number % 2) * times[:, None, None]
    height = 8 + 5 * (number % 4)
    disc = torch.exp(-((x - across).square() + (y - height).square()) / 20)
    return (0.1 + 0.8 * disc)[:, None]


class Discs(Clips):
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def times(self, indices):
        return torch.arange(float(FRAMES))

    def frames(self, indices):
        return torch.stack([(truth(i, self.times([i])) * 255).round().byte() for i in indices])


class DiscData(VideoData):
    shape = (1, SIZE, SIZE)
    generator = "sliding"

    def __init__(self, count: int = 6, batch_size: int = 4, observed: float = 1.0) -> None:
        super().__init__(FRAMES, batch_size=batch_size, observed=observed)
        self.count = count

    def clips(self, split):
        return Discs(self.count)

    def baselines(self, clip, n_cond):
        return {"an oracle": clip.frames}


class Guess(TrainablePredictor):
    """Shifts the first given frame by whole pixels, not far enough, and adds noise."""

    def __init__(self, speed: float = 1.0, noise: float = 0.05) -> None:
        super().__init__()
        self.speed = nn.Parameter(torch.tensor(speed))
        self.noise = noise

    def loss(self, video, times, mask, n_cond, progress):
        loss = (self.speed - 1.5).square()
        return loss, {"speed": loss.detach()}

    def predict(self, video, times, target_times, n_samples=1, mask=None):
        video, times, target_times, mask = self.checked(
            video, times, target_times, n_samples, mask
        )
        shifts = (self.speed.detach() * (target_times - times[0])).round().int().tolist()
        still = torch.stack([video[:, 0].roll(s, -1) for s in shifts], 1)
        return (still + self.noise * torch.randn(n_samples, *still.shape)).clamp(0, 1)
