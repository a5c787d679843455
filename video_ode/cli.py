"""`python -m video_ode.cli fit|validate|test|predict|swap|interpolate --config …`."""

import math
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser
from torch import Tensor
from tqdm import tqdm

from common.data.videos import (  # noqa: F401  so that a config may name data sets shortly
    bair,
    balls,
    embedded_clips,
    folder,
    human36m,
    kth,
    moving_mnist,
    moving_mnist_files,
    rotating_digits,
)
from common.data.videos.base import Clip, VideoData
from common.errors import InputError
from common.training.checkpoints import load_weights
from common.training.cli import CommandLine, run
from common.training.system import System
from common.typing import Times, Videos
from video_ode.evaluation.pictures import save_png
from video_ode.evaluation.protocol import Evaluation, Generating, Predicting
from video_ode.evaluation.samples import evaluation_mode
from video_ode.evaluation.writer import Format, PredictionWriter
from video_ode.module import VideoPredictionModule
from video_ode.predictor import VideoPredictor
from video_ode.srvp.show import interpolated, swapped


class VideoTrainer(Trainer):
    """Lightning's trainer with `predict`, `swap` and `interpolate`, which show videos."""

    def predict(  # type: ignore[override]
        self,
        model: System,
        datamodule: VideoData,
        ckpt_path: str | None = None,
        times: str | None = None,
        n: int = 8,
        n_samples: int = 4,
        formats: Sequence[Format] = ("gif", "mp4", "png"),
        fps: float = 8.0,
        out: str | None = None,
    ) -> list[Path]:
        """Predicts test videos at any times, or generates videos, and writes GIF, MP4 and PNG.

        Args:
            model: System.
            datamodule: Data set with the test videos.
            ckpt_path: Weights of the model: best, last or the path of a file.
            times: START:STOP:STEP, without STOP: 0:20:0.25 is slow motion, -5:20:1 begins before
                the video does, 19:-1:-1 plays backwards. None: the times of the video.
            n: Number of videos, the first ones of the test set.
            n_samples: Number of samples of each video; the best and up to three others are shown.
            formats: Any of gif, mp4 and png.
            fps: Frames a second at which the files play.
            out: Folder to write to. None: predictions/ in the run's folder.

        Returns:
            Written files.
        """
        if min(n, n_samples) < 1 or fps <= 0 or not formats:
            raise InputError(
                f"got n {n}, n_samples {n_samples}, fps {fps:g} and formats {list(formats)}; give "
                "at least 1 video, 1 sample, 1 format and a positive fps"
            )
        self._load(model, ckpt_path)
        asked = None if times is None else time_range(times)
        place = self._folder / "predictions" if out is None else Path(out)
        writer = PredictionWriter(place, formats, fps)
        quiet = self.progress_bar_callback is None
        paths = []
        with evaluation_mode(model):
            for clip in tqdm(first_videos(datamodule, n), "videos", n, disable=quiet):
                clip = clip.to(model.device)
                wanted = (clip.own_times()[0] if asked is None else asked).to(model.device)
                if isinstance(model, Generating):
                    videos = torch.cat([model.generate(1, wanted) for _ in range(n)])
                    paths = writer.write_generated(videos)
                    break
                samples = _predicted(model, clip, wanted, n_samples)
                paths += writer.write(clip, _conditioned(model).n_cond, wanted, samples)
        print("\n".join(f"prediction: {path}" for path in paths))
        return paths

    def swap(
        self,
        model: System,
        datamodule: VideoData,
        ckpt_path: str | None = None,
        n: int = 4,
        out: str | None = None,
    ) -> Path:
        """Shows videos with the motion of one test video and the content of another (SRVP only).

        Args:
            model: System.
            datamodule: Data set with the test videos.
            ckpt_path: Weights of the model: best, last or the path of a file.
            n: Number of videos, the first ones of the test set; each takes the content of the
                next one.
            out: PNG file to write. None: swap.png in the run's folder.

        Returns:
            Written file.
        """
        clip = self._first(model, datamodule, ckpt_path, n)
        with evaluation_mode(model):
            picture = swapped(_predictor(model), clip, _conditioned(model).n_cond)
        return self._shown("swap", picture, out)

    def interpolate(
        self,
        model: System,
        datamodule: VideoData,
        ckpt_path: str | None = None,
        n: int = 2,
        steps: int = 5,
        out: str | None = None,
    ) -> Path:
        """Shows videos between the motion of one test video and that of another (SRVP only).

        Args:
            model: System.
            datamodule: Data set with the test videos.
            ckpt_path: Weights of the model: best, last or the path of a file.
            n: Number of videos, the first ones of the test set; each is mixed with the next one.
            steps: Number of mixed videos, the two ends included.
            out: PNG file to write. None: interpolate.png in the run's folder.

        Returns:
            Written file.
        """
        clip = self._first(model, datamodule, ckpt_path, n)
        with evaluation_mode(model):
            n_cond = _conditioned(model).n_cond
            picture = interpolated(_predictor(model), clip, n_cond, steps)
        return self._shown("interpolate", picture, out)

    @property
    def _folder(self) -> Path:
        return Path(self.log_dir or self.default_root_dir)

    def _load(self, model: System, ckpt_path: str | None) -> None:
        assert ckpt_path is not None
        load_weights(model, ckpt_path)
        model.to(self.strategy.root_device)

    def _first(self, model: System, data: VideoData, ckpt_path: str | None, n: int) -> Clip:
        """Clip of the first `n` test videos; loads the weights of the model."""
        self._load(model, ckpt_path)
        clips = list(first_videos(data, n))
        if not clips:
            raise InputError(f"got n {n}; give 2 videos or more")
        return Clip.join(clips).to(model.device)

    def _shown(self, name: str, picture: Tensor, out: str | None) -> Path:
        path = save_png(picture, self._folder / f"{name}.png" if out is None else out)
        print(f"{name}: {path}")
        return path


class VideoCommandLine(CommandLine):
    """Command line of this package, with the options of `Evaluation`; keeps the best PSNR."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        own = ("predict", "swap", "interpolate")
        return {**CommandLine.subcommands(), **{name: {"model", "datamodule"} for name in own}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_lightning_class_args(Evaluation, "evaluation")
        parser.set_defaults({"best.monitor": "val/psnr", "best.mode": "max"})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        words = sys.argv[1:] if args is None else args
        if isinstance(words, list):
            self.config = parser.parse_args(_joined(words))
        else:
            super().parse_arguments(parser, words)


def time_range(text: str) -> Times:
    """Times `[t]` of the text `START:STOP:STEP`, without STOP; STEP is 1 if left out.

    Raises:
        InputError: Not such a range, or one that holds no times.
    """
    try:
        full = text if text.count(":") > 1 else f"{text}:1"
        start, stop, step = (float(x) for x in full.split(":"))
        count = math.ceil(round((stop - start) / step, 6))
    except (ValueError, ZeroDivisionError, OverflowError):
        count = 0
    if count < 1:
        raise InputError(
            f"got times {text!r}; give START:STOP:STEP, such as 0:20:0.5, or 19:-1:-1 backwards"
        )
    return torch.tensor([start + i * step for i in range(count)])


def first_videos(data: VideoData, n: int) -> Iterator[Clip]:
    """The first `n` test videos one by one, or all videos if there are fewer."""
    data.prepare_data()
    data.setup("predict")
    clips = (
        batch.select([i]) for batch in data.predict_dataloader() for i in range(len(batch.frames))
    )
    return islice(clips, n)


def _predicted(model: System, clip: Clip, times: Times, n_samples: int) -> Videos:
    """Samples at times in any order; models are asked in ascending order."""
    order = times.argsort()
    samples = _conditioned(model).predict(clip, times[order].to(clip.times), n_samples)
    return samples[:, :, order.argsort().to(samples.device)]


def _conditioned(model: System) -> Predicting:
    """The system as one that predicts from given frames."""
    if not isinstance(model, Predicting):
        raise InputError(
            f"{type(model).__name__} predicts no videos from given frames; give it a method "
            "predict(clip, target_times, n_samples)"
        )
    return model


def _predictor(model: System) -> VideoPredictor:
    """The video model inside a system."""
    if not isinstance(model, VideoPredictionModule):
        raise InputError(f"got {type(model).__name__}; give a VideoPredictionModule with SRVP")
    return model.predictor


def _joined(words: list[str]) -> list[str]:
    """`--times -5:15:1` as one word: alone, what begins with a minus would be an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--times":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def main(args: list[str] | None = None) -> None:
    """Trains or evaluates a video model, or shows what it predicts."""
    run(
        VideoData,
        Path(__file__).parent / "configs",
        args,
        command_line=VideoCommandLine,
        trainer=VideoTrainer,
    )


if __name__ == "__main__":
    main()
