"""System that trains video GANs."""

from collections.abc import Sequence

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from common.data.videos.base import Clip, VideoData
from common.errors import InputError, check_counts
from common.inputs import ArrayLike
from common.training.schedules import Schedule
from common.training.system import ManualSystem, Player
from common.typing import Times, Video, Videos
from video_ode.adversarial import R1, AdversarialLoss, Logistic
from video_ode.gan.clipping import SingularValueClipping
from video_ode.gan.critic import Critic, View, some_frames
from video_ode.gan.generator import AdversarialGenerator, real_views
from video_ode.predictor import to_unit


class VideoGANModule(ManualSystem):
    """System that trains a video generator against one critic or several.

    In each turn the critics take a step on the sum of their losses, and then the generator on the
    sum of its losses. If all critics look at a few frames only, the generator renders no others.
    An averaged generator comes from Lightning's `EMAWeightAveraging`.

    Logs `train/critic_loss`, `train/generator_loss`, and the means of the critics' scores of real
    and of generated videos, `train/real` and `train/generated`. The callback
    `GenerationMetrics` measures generated videos in validation.

    Args:
        generator: Generator of videos.
        critics: Critics (discriminators).
        loss: Adversarial loss. None: `Logistic`.
        generator_optimizer: Factory of the generator's optimiser, from parameters.
        critic_optimizer: Factory of the critics' optimiser, from parameters.
        schedule: Schedule of both learning rates. None: constant rates.
        critic_steps: Number of steps of the critics for each step of the generator.
        r1: Gradient penalty of the critics at real videos. None: no penalty.
        clipping: Clipping of the critics' weights. None: no clipping.
        accumulate: Number of batches of a turn.
        clip: Largest norm of a player's gradient. None: no clipping.

    Raises:
        InputError: No critic, or numbers below their minimum.
    """

    def __init__(
        self,
        generator: AdversarialGenerator,
        critics: Sequence[Critic],
        loss: AdversarialLoss | None = None,
        generator_optimizer: OptimizerCallable = torch.optim.Adam,
        critic_optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
        critic_steps: int = 1,
        r1: R1 | None = None,
        clipping: SingularValueClipping | None = None,
        accumulate: int = 1,
        clip: float | None = None,
    ) -> None:
        super().__init__(accumulate, clip)
        check_counts(1, critics=len(critics), critic_steps=critic_steps)
        self.save_hyperparameters()
        self.generator, self.critics = generator, nn.ModuleList(critics)
        self.adversarial, self.r1, self.clipping = loss or Logistic(), r1, clipping
        self.generator_optimizer, self.critic_optimizer = generator_optimizer, critic_optimizer
        self.schedule, self.critic_steps = schedule or Schedule(), critic_steps
        counts = [critic.n_frames for critic in critics if critic.n_frames is not None]
        # None: all frames of a clip, because a critic looks at all.
        self.n_frames = max(counts) if len(counts) == len(critics) else None

    def players(self) -> dict[str, Player]:
        return {
            "critic": Player(self.critics, self.critic_optimizer, self.schedule),
            "generator": Player(
                self.generator, self.generator_optimizer, self.schedule, self.critic_steps
            ),
        }

    def setup(self, stage: str) -> None:
        data, wanted = getattr(self.trainer, "datamodule", None), self.generator.shape
        if isinstance(data, VideoData) and wanted is not None and tuple(data.shape) != wanted:
            raise InputError(
                f"the data's frames are {tuple(data.shape)} but the generator was configured for "
                f"{wanted} (channels, height, width): change generator.shape or the data"
            )

    def loss(self, player: str, batch: Clip) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the `critic` or the `generator` on a batch."""
        video, times = self._some(to_unit(batch.frames), _shared(batch))
        views = self.generator.views(len(video), times)
        if player == "generator":
            scores = [critic(views) for critic in self.critics]
            return torch.stack([self.adversarial.generator(s) for s in scores]).sum(), {}
        views = [view._replace(video=view.video.detach()) for view in views]
        real = real_views(video, views)
        truths = [critic(real) for critic in self.critics]
        scores = [critic(views) for critic in self.critics]
        pairs = zip(truths, scores, strict=True)
        loss = torch.stack([self.adversarial.critic(*pair) for pair in pairs]).sum()
        terms = {
            "real": torch.stack([s.mean() for s in truths]).mean(),
            "generated": torch.stack([s.mean() for s in scores]).mean(),
        }
        if self.r1 is not None and int(self.turns) % self.r1.every == 0:
            terms["r1"] = penalty = self._penalty(self.r1, real)
            loss = loss + penalty
        return loss, {name: value.detach() for name, value in terms.items()}

    def after_step(self, player: str) -> None:
        clipping = self.clipping
        if clipping and player == "critic" and int(self.turns) % clipping.every == 0:
            clipping(self.critics)

    def generate(self, n: int, times: ArrayLike) -> Video:
        """Samples `[n t c h w]` in `[0, 1]`, see `VideoGenerator.generate`."""
        return self.generator.generate(n, times)

    def replay(self, n: int, times: Times, n_samples: int) -> Videos:
        """Motions `[s n t c h w]` of `n` videos: each has one content and one first state."""
        return self.generator.replay(n, times, n_samples)

    def validation_step(self, batch: Clip, batch_idx: int) -> None:
        """Nothing: `GenerationMetrics` asks for generated videos by itself."""

    def test_step(self, batch: Clip, batch_idx: int) -> None:
        """Nothing: `Evaluation` asks for generated videos by itself."""

    def _some(self, video: Video, times: Times) -> tuple[Video, Times]:
        """Frames at random times, as many as the critics look at, of longer clips."""
        if self.n_frames is None or self.n_frames >= len(times):
            return video, times
        chosen = some_frames(len(times), self.n_frames, video.device)
        return video[:, chosen], times[chosen]

    def _penalty(self, r1: R1, real: Sequence[View]) -> Tensor:
        """R1 of all critics together."""

        def scores(videos: Sequence[Tensor]) -> Tensor:
            views = [view._replace(video=v) for view, v in zip(real, videos, strict=True)]
            return torch.cat([critic(views).flatten() for critic in self.critics])

        return r1(scores, [view.video for view in real])


def _shared(clip: Clip) -> Times:
    """Times `[t]` of the clips; those of the first one, where each has its own."""
    return clip.own_times()[0]
