"""A tiny game of two players, for the laws of systems with several optimisers."""

from functools import partial

import torch
from torch import nn

from common.data.base import Data
from common.ode.evaluations import SolveError
from common.training.schedules import Schedule
from common.training.system import ManualSystem, Player

SGD = partial(torch.optim.SGD, lr=0.1)


class Numbers(Data):
    """Rows of numbers, fixed by their index."""

    shape = (1, 1, 3)

    def __init__(self, count: int = 12, batch_size: int = 2) -> None:
        super().__init__(batch_size)
        self.count = count

    def dataset(self, split):
        return Rows(torch.randn(self.count, 3, generator=torch.Generator().manual_seed(1)))


class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitems__(self, indices):
        return self.rows[torch.tensor(indices) % len(self)]


class Game(ManualSystem):
    """A generator of a shift, and a critic that is linear: `min_g max_c c · (x - g)`."""

    def __init__(
        self,
        accumulate: int = 1,
        clip: float | None = None,
        every: int = 1,
        decay: str = "constant",
        failing: int | None = None,
    ) -> None:
        super().__init__(accumulate, clip)
        self.save_hyperparameters()
        self.generator, self.critic = nn.Linear(3, 3), nn.Linear(3, 1)
        self.every, self.decay, self.failing = every, decay, failing
        self.seen, self.calls = [], 0

    def players(self):
        schedule = Schedule(decay=self.decay)
        return {
            "critic": Player(self.critic, SGD, schedule),
            "generator": Player(self.generator, SGD, schedule, self.every),
        }

    def loss(self, player, batch):
        self.seen.append((player, self.progress))
        self.calls += 1
        if self.calls == self.failing:
            raise SolveError("solve failed at t=0.5")
        gap = (
            self.critic(batch).mean() - self.critic(self.generator(torch.randn_like(batch))).mean()
        )
        loss = gap if player == "generator" else -gap
        loss = loss + 0.1 * self.critic.weight.square().sum()
        return loss, {"gap": gap.detach()}

    def validation_step(self, batch, batch_idx):
        self.log("val/gap", self.critic(batch).mean() - self.critic(self.generator(batch)).mean())


class Still(Game):
    """A game whose noise is the batch, so that the size of a batch doesn't matter."""

    def loss(self, player, batch):
        gap = self.critic(batch).mean() - self.critic(self.generator(batch)).mean()
        loss = gap if player == "generator" else -gap
        return loss + 0.1 * self.critic.weight.square().sum(), {}
