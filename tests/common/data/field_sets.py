"""A set of travelling waves: float32 fields, not pictures, each video with times of its own."""

import numpy as np
import torch

from common.data.draws import uniform
from common.data.videos.base import Clips, VideoData

SIDE = 8


class Waves(Clips):
    def __init__(self, count, n_frames):
        self.count, self.n_frames = count, n_frames

    def __len__(self):
        return self.count

    def times(self, indices):
        steps = 0.5 + uniform(np.asarray(indices), self.n_frames, seed=5)
        steps[:, 0] = 0
        return torch.from_numpy(steps.cumsum(1)).float()

    def frames(self, indices):
        phase = torch.arange(SIDE) / SIDE - 0.1 * self.times(indices)[..., None, None, None]
        shift = torch.tensor(indices).reshape(-1, 1, 1, 1, 1) / 7
        return (2 * torch.pi * (phase + shift)).sin().expand(-1, -1, 1, SIDE, -1).contiguous()


class WaveData(VideoData):
    shape = (1, SIDE, SIDE)

    def clips(self, split):
        return Waves(8 if split == "train" else 3, self.length(split))
