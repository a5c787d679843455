"""System that trains and evaluates a decoder from features back to frames."""

from itertools import islice

import torch
from pytorch_lightning.cli import OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from common.data.driving.tracks import TrackedClip
from common.data.videos.base import VideoData
from common.errors import InputError, check_counts
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem, Player
from common.typing import Image, Times
from video_ode.evaluation.pictures import Scene
from video_ode.evaluation.rows import Row
from video_ode.objects.decoders.base import FeatureDecoder, InvertibleDecoder
from video_ode.objects.decoders.evaluation import DecodedScores
from video_ode.objects.decoders.losses import cycle_loss, feature_loss, pixel_loss
from video_ode.objects.extractor import FeatureExtractor
from video_ode.objects.feature_clips import FeatureClip
from video_ode.objects.scenes import moments
from video_ode.objects.system import ExtractorSystem
from video_ode.predictor import to_pixels, to_unit

REST_BATCHES = 8  # training batches whose frames give the mean rest
# Standard deviation of the features that a decoder sees, about that of pixels: an i-RevNet keeps
# volumes, so that it can't learn another scale.
DEVIATION = 0.25


class FrameDecoderModule(ExtractorSystem, AutomaticSystem):
    """System that trains a decoder from the features of a fixed extractor (Predoc III, 5.2).

    The decoder sees relative features, whose channels have mean 0 and about the standard deviation
    of pixels; mean and deviation are those of the first training batch. The loss is

        pixel_weight · pixel_loss + feature_weight · feature_loss + cycle_weight · cycle_loss

    of relative features (`video_ode.objects.decoders.losses`), on one random frame of each video.
    The report trains an i-RevNet with the feature loss alone; with the pixel loss and `noise` too,
    it is the report's "data augmentation from both ends" (section 5.3.2). Without a loss on
    decoded frames, nothing trains the decoder's `rest`: before each validation and after each
    epoch it becomes the mean rest of training frames.

    Logs `train/loss` and its terms, and in validation and test `psnr`, `feature_error` and the
    extractor's scores of what it sees in the decoded frames, such as `val/agreement50` (see
    `DecodedScores`). `predict` draws true and decoded videos.

    Args:
        extractor: Network that gives the features; it is not trained.
        decoder: Decoder, for the extractor's features of frames of one size.
        scale: Number of the scale of the features, finest first.
        pixel_weight: Weight of the loss of decoded frames.
        feature_weight: Weight of the loss of encoded features; for invertible decoders.
        cycle_weight: Weight of the cycle consistency.
        noise: Standard deviation of the noise on the features that are decoded, as a share of
            that of the features.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.

    Raises:
        InputError: A decoder for other features, weights or a noise that it can't be trained
            with, or numbers out of range.
    """

    mean: Tensor
    deviation: Tensor
    measured: Tensor

    def __init__(
        self,
        extractor: FeatureExtractor,
        decoder: FeatureDecoder,
        scale: int = 1,
        pixel_weight: float = 1.0,
        feature_weight: float = 0.0,
        cycle_weight: float = 0.0,
        noise: float = 0.0,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(optimizer, schedule)
        self.weights = {"pixel": pixel_weight, "feature": feature_weight, "cycle": cycle_weight}
        check_counts(
            0, noise=noise, **{f"{k}_weight": weight for k, weight in self.weights.items()}
        )
        _check_decoder(decoder, extractor.shape_at(scale, decoder.shape), self.weights, noise)
        self.save_hyperparameters()
        self.keep(extractor)
        self.decoder = decoder
        self.scale, self.noise = scale, noise
        self.register_buffer("mean", torch.zeros(decoder.feature_shape[0], 1, 1))
        self.register_buffer("deviation", torch.ones(decoder.feature_shape[0], 1, 1))
        self.register_buffer("measured", torch.tensor(False))
        self._scores: DecodedScores | None = None

    def players(self) -> dict[str, Player]:
        return {"decoder": Player(self.decoder, self.optimizer, self.schedule)}

    def forward(self, features: Tensor, last: Image | None = None) -> Image:
        """Frames in `[0, 1]` of features `[n c h w]`, see `FeatureDecoder.forward`."""
        return self.decoder(self.relative(features), last)

    def relative(self, features: Tensor) -> Tensor:
        """Features as the decoder sees them."""
        return DEVIATION * (features - self.mean) / self.deviation

    def on_train_batch_start(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        if not self.measured:
            features, everywhere = self.features_of(batch).features[self.scale], (0, 1, 3, 4)
            self.mean = self.of_first_device(features.mean(everywhere)[:, None, None])
            self.deviation = self.of_first_device(features.std(everywhere)[:, None, None] + 1e-3)
            self.measured.fill_(True)

    def loss(self, frames: Image, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss of frames in `[0, 1]` and their features, and its terms by name."""
        features = self.relative(features)
        losses = {
            "pixel": lambda: pixel_loss(self.decoder, features, frames, self.noise),
            "feature": lambda: feature_loss(self._invertible(), frames, features),
            "cycle": lambda: cycle_loss(self.decoder, self._seen, features),
        }
        terms = {name: losses[name]() for name, weight in self.weights.items() if weight}
        return torch.stack([self.weights[name] * x for name, x in terms.items()]).sum(), terms

    def training_step(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> Tensor:
        loss, terms = self.loss(*self._chosen(batch))
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def on_train_epoch_end(self) -> None:
        self._measure_rest()

    def on_validation_epoch_start(self) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._measure_rest()
        self._scores = DecodedScores(self.extractor, self.scale)

    def on_test_epoch_start(self) -> None:
        self._scores = DecodedScores(self.extractor, self.scale)

    def validation_step(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        self._evaluate(batch)

    def test_step(self, batch: FeatureClip | TrackedClip, batch_idx: int) -> None:
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def draw(
        self,
        batch: FeatureClip | TrackedClip,
        data: VideoData | None,
        times: Times | None,
        n_samples: int,
    ) -> list[Scene]:
        """Scenes of true and decoded videos, at any times that the data can show.

        `n_samples` has no effect: nothing is random.
        """
        batch = self.features_of(batch)
        wanted = batch.clip.own_times()[0] if times is None else times.to(batch.clip.times)
        frames = moments(batch.videos, data, wanted).clip.frames
        scenes = []
        for video in frames.to(self.device):
            decoded = to_pixels(self(self._extracted(to_unit(video))))
            true = Row(video, ["true"] * len(video), "truth")
            rows = [Row(decoded, ["predicted"] * len(video), "decoded")]
            scenes.append(Scene(None, true, true, rows, wanted.tolist()))
        return scenes

    def _evaluate(self, batch: FeatureClip | TrackedClip) -> None:
        assert self._scores is not None
        batch = self.features_of(batch)
        for k in range(batch.clip.frames.shape[1]):
            decoded = self(batch.features[self.scale][:, k])
            self._scores.to(self.device).update(decoded, batch, k)

    def _report(self, stage: str) -> None:
        assert self._scores is not None
        numbers = {f"{stage}/{name}": value for name, value in self._scores.compute().items()}
        self._scores = None
        self.log_dict(numbers, rank_zero_only=True)

    def _chosen(self, batch: FeatureClip | TrackedClip) -> tuple[Image, Tensor]:
        """One random frame of each video, and its features."""
        batch = self.features_of(batch)
        b, t = batch.clip.frames.shape[:2]
        rows, chosen = torch.arange(b), torch.randint(t, (b,))
        features = batch.features[self.scale][rows, chosen]
        return to_unit(batch.clip.frames[rows, chosen]), features

    def _measure_rest(self) -> None:
        """Sets the decoder's rest, if no loss trains it."""
        decoder = self.decoder
        trained = self.weights["pixel"] or self.weights["cycle"]
        if isinstance(decoder, InvertibleDecoder) and not trained:
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            batches = islice(data.train_dataloader(), REST_BATCHES)
            frames = [self._chosen(batch.to(self.device))[0] for batch in batches]
            training = decoder.training
            decoder.eval().set_rest(torch.cat(frames))
            decoder.rest.data = self.of_first_device(decoder.rest.data)
            decoder.train(training)

    def _extracted(self, frames: Image) -> Tensor:
        return self.extractor.features(frames)[self.scale]

    def _seen(self, frames: Image) -> Tensor:
        return self.relative(self._extracted(frames))

    def _invertible(self) -> InvertibleDecoder:
        assert isinstance(self.decoder, InvertibleDecoder)
        return self.decoder


def _check_decoder(
    decoder: FeatureDecoder, wanted: tuple[int, ...], weights: dict[str, float], noise: float
) -> None:
    """Checks that a decoder takes the features, and can be trained with the weights.

    Raises:
        InputError: It can't.
    """
    if decoder.feature_shape != tuple(wanted):
        raise InputError(
            f"the decoder takes features {list(decoder.feature_shape)}, but the extractor gives "
            f"{list(wanted)} at this scale; change model.decoder or model.scale"
        )
    if not any(weights.values()) or not any(p.requires_grad for p in decoder.parameters()):
        raise InputError(
            "nothing is trained; give pixel_weight, feature_weight or cycle_weight more than 0, "
            "and a decoder with weights"
        )
    if weights["feature"] and not isinstance(decoder, InvertibleDecoder):
        raise InputError(
            f"got feature_weight {weights['feature']:g}, but {type(decoder).__name__} gives no "
            "features; set it to 0, or give an invertible decoder, such as IRevNet"
        )
    if noise and not weights["pixel"]:
        raise InputError(f"got noise {noise:g} without pixel_weight, where it has no effect")
    batch_norm = any(isinstance(m, nn.BatchNorm2d) for m in decoder.modules())
    decodes = weights["pixel"] or weights["cycle"]
    if decodes and batch_norm and isinstance(decoder, InvertibleDecoder):
        raise InputError(
            "got pixel_weight or cycle_weight for an invertible decoder with batch norm, whose "
            "inverse needs evaluation mode; set decoder.norm: layer"
        )
