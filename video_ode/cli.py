"""Command line of video_ode.

python -m video_ode.cli fit|validate|test|predict|swap|interpolate --config …
python -m video_ode.cli retime --video …
"""

if __name__ == "__main__":
    from common.signals import catch

    catch(deferred=True)  # before the libraries load, which takes seconds

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser
from torch import Tensor

from common import signals
from common.data.videos.base import Clip, VideoData
from common.errors import InputError, check_counts
from common.files import check_new, free_path
from common.training.checkpoints import load_weights
from common.training.cli import CommandLine, run, run_command
from common.training.parser import Parser
from common.training.system import System
from video_ode import short_names  # noqa: F401  so that these names are known
from video_ode.evaluation.files.media import save_png
from video_ode.evaluation.files.writer import Format, PredictionWriter
from video_ode.evaluation.own_clips import OWN_FORMATS, OwnClips, Timing, Window
from video_ode.evaluation.predictions import (
    conditioned,
    first_videos,
    time_range,
    write_test_videos,
)
from video_ode.evaluation.protocol import Evaluation
from video_ode.evaluation.samples import evaluation_mode
from video_ode.evaluation.swap import interpolated, swapped
from video_ode.module import VideoPredictionModule
from video_ode.objects.feature_clips import FeatureClips
from video_ode.optical_flow.retiming.retime import retime
from video_ode.predictor import VideoPredictor


class VideoTrainer(Trainer):
    """Lightning's trainer with the subcommands `predict`, `swap` and `interpolate`."""

    def predict(  # type: ignore[override]
        self,
        model: System,
        datamodule: VideoData | None = None,
        ckpt_path: str | None = None,
        input: str | None = None,
        start: float = 0.0,
        times: str | None = None,
        step: int = 1,
        timing: Timing = "stamps",
        n: int = 8,
        n_samples: int = 4,
        formats: Sequence[Format] | None = None,
        fps: float = 8.0,
        out: str | None = None,
    ) -> list[Path]:
        """Predicts test videos or your own at any times, or generates videos, and writes files.

        No file is replaced: if there are files of a name, the next ones get the name with -2.

        Args:
            model: System.
            datamodule: Data set with the test videos. None: there is an input.
            ckpt_path: Weights of the model: best, last, the path of a file, or the name of a
                model that ships.
            input: Video file, or folder with videos, all of which are predicted instead of test
                videos. The size and the number of given frames are those of the model; the data
                set of the configuration isn't read. None: test videos.
            start: Time in s at which the given frames begin in a video of the input.
            times: Times of the predictions as START:STOP:STEP, without STOP itself. Examples:
                0:20:0.25 is slow motion, -5:20:1 begins before the video, 19:-1:-1 plays
                backward. The unit is a frame of the data, or a step of the input, whose first
                given frame is at 0. None: the times of the video; for an input, twice as many as
                the given ones, or quarters of the time between two frames for optical flow.
            step: Number of frames of the input in a unit of time: every step-th frame is given.
                With 5, a model of 12 frames a second gets a video of 60 as it expects it.
            timing: stamps: the frames of an input have the times of their time stamps; frames:
                they count as evenly spaced.
            n: Number of videos, the first ones of the test set.
            n_samples: Number of samples of each video; the best and up to three others are shown.
                For a generator: number of motions from one content and one first state.
            formats: One or more of gif, mp4 and png (for the eye), frames (a PNG file of each
                frame), mkv (lossless) and npz (arrays). None: gif, mp4 and png; for an input also
                frames and npz.
            fps: Number of frames a second of the animations and videos.
            out: Folder to write to. None: predictions/ in the run's folder.

        Returns:
            Written files.
        """
        check_counts(1, n=n, n_samples=n_samples)
        asked = None if times is None else time_range(times)
        if formats is None:
            formats = ("gif", "mp4", "png") if input is None else OWN_FORMATS
        writer = PredictionWriter(Path(out or self._folder / "predictions"), formats, fps)
        window = Window(start, step, timing)
        if input is None and window != Window():
            raise InputError("got start, step or timing, which are of an input; give input too")
        own = None if input is None else OwnClips(model, input, window, times)
        self._load(model, datamodule, ckpt_path)
        with evaluation_mode(model):
            if own is not None:
                return own.write(writer, n_samples)
            if datamodule is None:
                raise InputError("got neither data nor input; give one of them")
            return write_test_videos(writer, model, datamodule, n, asked, n_samples)

    def swap(
        self,
        model: System,
        datamodule: VideoData,
        ckpt_path: str | None = None,
        n: int = 4,
        out: str | None = None,
    ) -> Path:
        """Shows videos with the motion of one test video and the content of another one.

        Args:
            model: System.
            datamodule: Data set with the test videos.
            ckpt_path: Weights of the model: best, last, the path of a file, or the name of a
                model that ships.
            n: Number of videos, the first ones of the test set; each one gets the content of the
                next one.
            out: New PNG file to write. None: swap.png in the run's folder, or, if there is one,
                swap-2.png and so on.

        Returns:
            Written file.
        """
        clip = self._first(model, datamodule, ckpt_path, n, out)
        with evaluation_mode(model):
            picture = swapped(model, clip, conditioned(model).n_cond)
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
        """Shows videos between the motion of one test video and that of another one.

        Args:
            model: System.
            datamodule: Data set with the test videos.
            ckpt_path: Weights of the model: best, last, the path of a file, or the name of a
                model that ships.
            n: Number of videos, the first ones of the test set; each is mixed with the next one.
            steps: Number of mixed videos, the two ends included.
            out: New PNG file to write. None: interpolate.png in the run's folder, or, if there is
                one, interpolate-2.png and so on.

        Returns:
            Written file.
        """
        check_counts(2, steps=steps)
        clip = self._first(model, datamodule, ckpt_path, n, out)
        with evaluation_mode(model):
            n_cond = conditioned(model).n_cond
            picture = interpolated(_predictor(model), clip, n_cond, steps)
        return self._shown("interpolate", picture, out)

    @property
    def _folder(self) -> Path:
        return Path(self.log_dir or self.default_root_dir)

    def _load(self, model: System, data: VideoData | None, ckpt_path: str | None) -> None:
        assert ckpt_path is not None
        if isinstance(model, VideoPredictionModule) and data is not None:
            model.check(data, "predict")
        load_weights(model, ckpt_path)
        if isinstance(data, FeatureClips):
            data.attach(model)
        model.to(self.strategy.root_device)

    def _first(
        self, model: System, data: VideoData, ckpt_path: str | None, n: int, out: str | None
    ) -> Clip:
        """Clip of the first `n` test videos; loads the weights, once `out` is known to do."""
        check_counts(2, n=n)
        conditioned(model)
        if out is not None:
            check_new(out, ".png")
        self._load(model, data, ckpt_path)
        videos = list(first_videos(data, n))
        if not isinstance(videos[0], Clip):
            raise InputError(
                f"got batches of type {type(videos[0]).__name__}; give data that serve clips "
                "only, for example with tracks: false"
            )
        return Clip.join(videos).to(model.device)

    def _shown(self, name: str, picture: Tensor, out: str | None) -> Path:
        path = save_png(picture, free_path(self._folder / f"{name}.png") if out is None else out)
        print(f"{name}: {path}")
        return path


class VideoCommandLine(CommandLine):
    """Command line of this package: options of `Evaluation`, and `best.ckpt` by PSNR."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        own = ("predict", "swap", "interpolate")
        return {**CommandLine.subcommands(), **{name: {"model", "datamodule"} for name in own}}

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        config = self.config[self.subcommand]
        if config.get("input") is not None:
            self._dump_config()  # of the whole configuration; it is made once
            config.data = None  # whose files may not be on this machine

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        subcommands = parser._subcommands_action
        assert subcommands is not None
        # Here it is only listed: `main` runs it, because it has neither a system nor data.
        summary = "Changes the frame rate of a video, or plays it slower, faster or backward."
        subcommands.add_subcommand("retime", Parser(), help=summary)

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


def _predictor(model: System) -> VideoPredictor:
    """Video model of a system.

    Raises:
        InputError: The system isn't a `VideoPredictionModule`.
    """
    if not isinstance(model, VideoPredictionModule):
        raise InputError(f"got {type(model).__name__}; give a VideoPredictionModule")
    return model.predictor


def _joined(words: list[str]) -> list[str]:
    """Arguments with `--times -5:15:1` as one word: `-5:15:1` alone would look like an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--times":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _with_values(words: list[str]) -> list[str]:
    """Arguments with `--backward true` for `--backward` alone."""
    following = [*words[1:], "--"]
    pairs = zip(words, following, strict=True)
    return [w + "=true" * (w == "--backward" and f.startswith("--")) for w, f in pairs]


def main(args: list[str] | None = None) -> None:
    """Runs the command line: trains or evaluates a video model, or shows its predictions.

    Args:
        args: Arguments. None: the arguments of the process.
    """
    words = sys.argv[1:] if args is None else args
    if words[:1] == ["retime"]:
        with signals.caught():
            run_command({"retime": retime}, _with_values(words))
        return
    run(
        VideoData,
        Path(__file__).parent / "configs",
        args,
        command_line=VideoCommandLine,
        trainer=VideoTrainer,
    )


if __name__ == "__main__":
    main()
