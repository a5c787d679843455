"""System that trains and evaluates optical flow between two frames."""

from pathlib import Path

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import Tensor

from common.data.flow.base import FlowClip
from common.data.flow_colours import flow_colours
from common.data.videos.base import Clip, VideoData
from common.errors import InputError
from common.ode.evaluations import SolveError
from common.training.schedules import Schedule
from common.training.system import AutomaticSystem
from common.typing import Times
from video_ode.evaluation.pictures import TOLERANCE, Scene
from video_ode.evaluation.report import MODEL
from video_ode.evaluation.rows import Kind, Row
from video_ode.evaluation.systems import GivenFrames
from video_ode.optical_flow.estimator import FlowEstimator
from video_ode.optical_flow.evaluation import FlowEvaluation, Rows, flow_table, write_flow_table
from video_ode.predictor import to_pixels, to_unit


class OpticalFlowModule(AutomaticSystem):
    """System that trains optical flow from frames alone and evaluates it.

    It takes any video set: the first and the last frame of a video are given, and the frames
    between them train the motion at fractional times. Sets of optical flow (`FlowClip`) also have
    the true flow, which is for the evaluation only.

    Logs in validation `val/epe`, the end-point error of the flow in pixels (on pixels that both
    frames show), and the other numbers of `common.metrics.flow`; and `val/psnr` and `val/ssim` of
    the frames between. `test` prints a table with baselines and writes `test_table.csv`. `predict`
    draws the frames at any times and the velocity of their pixels.

    Args:
        estimator: Model of optical flow.
        optimizer: Factory of the optimiser, from parameters.
        schedule: Schedule of the learning rate. None: a constant rate.
    """

    def __init__(
        self,
        estimator: FlowEstimator,
        optimizer: OptimizerCallable = torch.optim.Adam,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__(optimizer, schedule)
        self.save_hyperparameters()
        self.estimator = estimator
        self._evaluation: FlowEvaluation | None = None

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, VideoData):
            return
        shape = self.estimator.shape
        if shape is not None and tuple(shape) != tuple(data.shape):
            raise InputError(
                f"the data's frames are {list(data.shape)} but the estimator was configured for "
                f"{list(shape)} [channels, height, width]: change estimator.shape or the data"
            )
        if data.shape[0] != self.estimator.network.channels:
            raise InputError(
                f"the data's frames have {data.shape[0]} channels but the network takes "
                f"{self.estimator.network.channels}; change network.channels or the data"
            )

    def given_frames(self) -> GivenFrames:
        """Frames that the estimator needs of a video of the user: two, for those between them."""
        size = None if self.estimator.shape is None else self.estimator.shape[1:]
        return GivenFrames(2, self.estimator.channels, size, between=True)

    def training_step(self, batch: FlowClip | Clip, batch_idx: int) -> Tensor:
        clip = _clip(batch)
        try:
            loss, terms = self.estimator.loss(
                to_unit(clip.frames), clip.times, clip.mask, 2, self.progress
            )
        except SolveError as error:
            return self.left_out(error)
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return loss

    def validation_step(self, batch: FlowClip | Clip, batch_idx: int) -> None:
        assert self._evaluation is not None
        self._evaluation.update(batch)

    def test_step(self, batch: FlowClip | Clip, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_start(self) -> None:
        self._evaluation = FlowEvaluation(self.estimator, baselines=False)

    def on_validation_epoch_end(self) -> None:
        self._logged("val")

    def on_test_epoch_start(self) -> None:
        self._evaluation = FlowEvaluation(self.estimator)

    def on_test_epoch_end(self) -> None:
        # On every process, because `log_dir` communicates between processes.
        folder = Path(self.trainer.log_dir or self.trainer.default_root_dir)
        rows = self._logged("test")
        if self.trainer.is_global_zero:
            print(f"\n{flow_table(rows)}\n")
            if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                print(f"test table: {write_flow_table(rows, folder.resolve())}")

    def draw(
        self,
        batch: FlowClip | Clip,
        data: VideoData | None,
        times: Times | None,
        n_samples: int,
    ) -> list[Scene]:
        """Scenes of the frames at any times, and of the velocity of their pixels in colours.

        Only the first and the last frame of a video are given. With a true flow, a last row shows
        it; it is that from the first frame to the last.
        """
        clip = _clip(batch)
        video, own = to_unit(clip.frames), clip.own_times()[0]
        wanted = own if times is None else times.to(own)
        shares = (wanted - own[0]) / (own[-1] - own[0])
        frames = to_pixels(self.estimator.between(video[:, 0], video[:, -1], shares))
        velocities = self.estimator.velocities(video[:, 0], video[:, -1], shares)
        ends = [min(abs(x), abs(x - 1)) <= TOLERANCE for x in shares.tolist()]
        kinds: list[Kind] = ["given" if end else "predicted" for end in ends]
        held = (torch.searchsorted(own, wanted + TOLERANCE, right=True) - 1).clamp(0)
        within = (wanted >= own[0] - TOLERANCE) & (wanted <= own[-1] + TOLERANCE)
        exact = (own[held] - wanted).abs() <= TOLERANCE
        scenes = []
        for i in range(len(video)):
            frame, longest = clip.frames[i, held], float(velocities[i].norm(dim=1).max())
            colours = [velocities[i]]
            if isinstance(batch, FlowClip):
                true = batch.flow[i] * batch.valid[i]
                longest = max(longest, float(true.norm(dim=0).max()))
                colours.append(true.expand(len(kinds), -1, -1, -1))
            # One scale for all, so that they can be compared.
            flows = [flow_colours(x, longest or None) for x in colours]
            names = ("velocity", "true flow")
            rows = [Row(frames[i], kinds, "between")]
            rows += [Row(x, kinds, name) for x, name in zip(flows, names, strict=False)]
            truth, known = _true(frame, within), _true(frame, exact)
            scenes.append(Scene(None, truth, known, rows, wanted.tolist()))
        return scenes

    def _logged(self, stage: str) -> Rows:
        """Scores of the evaluation, of which those of the model are logged."""
        assert self._evaluation is not None
        rows, self._evaluation = self._evaluation.rows(), None
        numbers = {f"{stage}/{name}": value for name, value in rows[MODEL].items()}
        self.log_dict(numbers, prog_bar=stage == "val", rank_zero_only=True)
        return rows


def _clip(batch: FlowClip | Clip) -> Clip:
    return batch.clip if isinstance(batch, FlowClip) else batch


def _true(frames: Tensor, shown: Tensor) -> Row:
    """Row of true frames, blank where they aren't shown."""
    return Row(frames, ["true" if x else "none" for x in shown.tolist()], "truth")
