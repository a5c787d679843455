"""System that trains and evaluates predictions of features."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor, nn

from common.data.base import STAGES
from common.data.driving.tracks import TrackedClip
from common.data.videos.base import VideoData
from common.errors import InputError, check_counts
from common.training.schedules import Schedule
from common.training.system import ManualSystem, Player
from common.typing import Frames, Times, VideoTimes
from video_ode.adversarial import Hinge
from video_ode.evaluation.pictures import TOLERANCE, Scene
from video_ode.evaluation.report import MODEL
from video_ode.objects.decoders.base import FeatureDecoder
from video_ode.objects.decoders.losses import pixel_loss
from video_ode.objects.evaluation import FeatureEvaluation, FeatureReport
from video_ode.objects.extractor import FeatureExtractor
from video_ode.objects.feature_clips import FeatureClip
from video_ode.objects.losses import FeatureCritic, FeatureLoss, MeanSquares
from video_ode.objects.predictor import FeaturePath, FeaturePredictor
from video_ode.objects.scenes import feature_scenes, moments, scale_of
from video_ode.objects.system import ExtractorSystem
from video_ode.predictor import to_unit

PredictorFactory = Callable[[Sequence[int], Sequence[int]], FeaturePredictor]
CriticFactory = Callable[[Sequence[int]], FeatureCritic]


class FeaturePredictionModule(ExtractorSystem, ManualSystem):
    """System that trains a prediction of the features of a fixed extractor (Predoc III, 5.1).

    The first `n_cond` frames of a training video are given; the loss compares the features of all
    its later frames. `FeatureClips` computes the features of a data set once; with other sets of
    tracked objects, such as `DrivingScenes` with `tracks: true`, the extractor runs in each step.

    Logs `train/predictor_loss`, and in validation the extractor's scores of the predicted
    features and their error, such as `val/map50` and `val/feature_error`, means over the later
    frames. `test` prints a table with baselines (see `FeatureEvaluation`) and writes
    `test_table.csv`, `test_curves.csv` and `test_curves.png`. `predict` draws what the extractor
    reads at any times.

    Args:
        extractor: Network that gives features and reads them; it is not trained.
        predictor: From the extractor's channels and strides to the predictor.
        n_cond: Number of given frames.
        loss: Loss of the features. None: `MeanSquares`.
        reading_weight: Weight of the extractor's own loss of what it reads, beside the loss of the
            features.
        kl_weight: Weight of the KL divergence of a random path from its prior.
        skip: Greatest step between the frames of a training video ("key frames", section 5.3.1):
            each turn takes every k-th frame, with k from 1 to `skip`.
        critic: From the extractor's channels to a critic that tells true features from predicted
            ones. None: no adversarial loss.
        adversarial_weight: Weight of the adversarial loss.
        decoder: Decoder from the features of one scale to frames, which is trained together with
            the predictor ("end-to-end training", section 5.3.2). None: no frames.
        pixel_weight: Weight of the mean squared error of frames decoded from predicted features.
        optimizer: Factory of the optimiser of the predictor, from parameters.
        critic_optimizer: Factory of the optimiser of the critic.
        schedule: Schedule of both learning rates. None: constant rates.
        clip: Largest norm of a gradient. None: no clipping.

    Raises:
        InputError: Numbers out of range.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        predictor: PredictorFactory,
        n_cond: int = 3,
        loss: FeatureLoss | None = None,
        reading_weight: float = 0.0,
        kl_weight: float = 1.0,
        skip: int = 1,
        critic: CriticFactory | None = None,
        adversarial_weight: float = 0.01,
        decoder: FeatureDecoder | None = None,
        pixel_weight: float = 1.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        critic_optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
        clip: float | None = None,
    ) -> None:
        super().__init__(clip=clip)
        check_counts(1, n_cond=n_cond, skip=skip)
        check_counts(
            0,
            reading_weight=reading_weight,
            kl_weight=kl_weight,
            adversarial_weight=adversarial_weight,
            pixel_weight=pixel_weight,
        )
        self.save_hyperparameters()
        self.keep(extractor)
        self.predictor = predictor(extractor.channels, extractor.strides)
        self.critic = None if critic is None else critic(extractor.channels)
        self.n_cond, self.skip = n_cond, skip
        self.feature_loss, self.reading_weight = loss or MeanSquares(), reading_weight
        self.kl_weight, self.adversarial_weight = kl_weight, adversarial_weight
        self.decoder, self.pixel_weight = decoder, pixel_weight
        self.optimizer, self.critic_optimizer = optimizer, critic_optimizer
        self.schedule = schedule or Schedule()
        self._evaluation: FeatureEvaluation | None = None

    def players(self) -> dict[str, Player]:
        parts = [self.predictor] if self.decoder is None else [self.predictor, self.decoder]
        trained = Player(nn.ModuleList(parts), self.optimizer, self.schedule)
        if self.critic is None:
            return {"predictor": trained}
        critic = Player(self.critic, self.critic_optimizer, self.schedule)
        return {"critic": critic, "predictor": trained}

    def setup(self, stage: str) -> None:
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, VideoData):
            return
        for split in STAGES[stage]:
            if data.length(split) <= self.n_cond:
                raise InputError(
                    f"got {split} videos of {data.length(split)} frames and n_cond {self.n_cond}; "
                    "no frame is left to predict: raise data's n_frames or lower model.n_cond"
                )

    def forward(
        self, batch: FeatureClip | TrackedClip, target_times: Times | VideoTimes
    ) -> FeaturePath:
        """Features at ascending target times, from the first `n_cond` frames of videos."""
        batch = self.features_of(batch)
        given = [x[:, : self.n_cond] for x in batch.features]
        return self.predictor(given, batch.clip.times[..., : self.n_cond], target_times)

    def on_train_batch_start(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        if int(self.turns) == 0:
            batch = self.features_of(batch)
            self.extractor.truths(batch.videos, 0)  # the validation needs them: fail at once
            self.predictor.measure(batch.features)
            for size in self.predictor.sizes:
                size.data = self.of_first_device(size.data)

    def loss(
        self, player: str, batch: FeatureClip | TrackedClip
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the `predictor` or of the `critic` on a batch."""
        n, (features, frames, times) = self.n_cond, self._key_frames(self.features_of(batch))
        path = self.predictor([x[:, :n] for x in features], times[..., :n], times[..., n:])
        true = [x[:, n:] for x in features]
        found, wanted = self.predictor.relative(path.features), self.predictor.relative(true)
        if player == "critic":
            assert self.critic is not None
            return Hinge().critic(
                self.critic(wanted), self.critic([x.detach() for x in found])
            ), {}
        terms = {"features": self.feature_loss(found, wanted), "kl": path.kl.mean()}
        loss = terms["features"] + self.kl_weight * terms["kl"]
        if self.reading_weight:
            terms["readings"] = self.extractor.reading_loss(_flat(path.features), _flat(true))
            loss = loss + self.reading_weight * terms["readings"]
        if self.critic is not None:
            terms["adversarial"] = Hinge().generator(self.critic(found))
            loss = loss + self.adversarial_weight * terms["adversarial"]
        if self.decoder is not None:
            decoded = scale_of(self.decoder, _flat(path.features))
            terms["pixels"] = pixel_loss(
                self.decoder, decoded, to_unit(frames[:, n:].flatten(0, 1))
            )
            loss = loss + self.pixel_weight * terms["pixels"]
        return loss, {name: value.detach() for name, value in terms.items()}

    def validation_step(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_start(self) -> None:
        self._evaluation = FeatureEvaluation(self.extractor, self.n_cond, baselines=False)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_start(self) -> None:
        self._evaluation = FeatureEvaluation(self.extractor, self.n_cond)

    def on_test_epoch_end(self) -> None:
        # On every process, because `log_dir` communicates between processes.
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        report = self._report("test")
        if self.trainer.is_global_zero:
            print(f"\n{report.table()}\n")
            if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                for path in report.write(folder.resolve()):
                    print(f"{path.stem.replace('_', ' ')}: {path}")

    def draw(
        self,
        batch: FeatureClip | TrackedClip,
        data: VideoData | None,
        times: Times | None,
        n_samples: int,
    ) -> list[Scene]:
        """Scenes of what the extractor reads at any times: the truth, then `n_samples` samples.

        The features of a given frame are shown as they are; those of all other times are
        predicted. They are read, and drawn on the true frames and, with a decoder, also on decoded
        frames.
        """
        batch = self.features_of(batch)
        own = batch.clip.own_times()[0]
        wanted = own if times is None else times.to(own)
        paths = [self._features_at(batch, wanted)]
        for _ in range(n_samples - 1):
            paths.append(self._features_at(batch, wanted))
            if all(map(torch.equal, paths[0], paths[-1])):  # nothing is random
                paths.pop()
                break
        shown = moments(batch.videos, data, wanted)
        given = (wanted >= own[0] - TOLERANCE) & (wanted <= own[self.n_cond - 1] + TOLERANCE)
        return feature_scenes(self.extractor, self.decoder, shown, paths, given)

    def _features_at(self, batch: FeatureClip, times: Times) -> list[Tensor]:
        """Features at times in any order: of the given frames at theirs, else predicted."""
        gaps = (times[:, None] - batch.clip.own_times()[0, : self.n_cond]).abs()
        known = gaps.amin(1) <= TOLERANCE
        features = [x[:, gaps.argmin(1)] for x in batch.features]
        if not bool(known.all()):
            asked, place = times[~known].unique(return_inverse=True)
            for x, y in zip(features, self(batch, asked).features, strict=True):
                x[:, ~known] = y[:, place]
        return features

    def _evaluate(self, batch: FeatureClip | TrackedClip) -> None:
        assert self._evaluation is not None
        batch = self.features_of(batch)
        predicted = self(batch, batch.clip.times[..., self.n_cond :]).features
        self._evaluation.update(batch, predicted)

    def _report(self, stage: str) -> FeatureReport:
        """Report of the evaluation, whose numbers of the model are logged."""
        assert self._evaluation is not None
        report, self._evaluation = FeatureReport(self._evaluation), None
        numbers = {f"{stage}/{name}": value for name, value in report.numbers(MODEL).items()}
        self.log_dict(numbers, rank_zero_only=True)
        return report

    def _key_frames(self, batch: FeatureClip) -> tuple[list[Tensor], Frames, Times | VideoTimes]:
        """Features, frames and times of every k-th frame, with a random k up to `skip`."""
        frames, times = batch.clip.frames, batch.clip.times
        n_frames = frames.shape[1]
        most = max(1, min(self.skip, (n_frames - 1) // self.n_cond))
        step = int(torch.randint(1, most + 1, ())) if most > 1 else 1
        return [x[:, ::step] for x in batch.features], frames[:, ::step], times[..., ::step]


def _flat(features: Sequence[Tensor]) -> list[Tensor]:
    return [x.flatten(0, 1) for x in features]
