"""Features of videos, computed once by a feature extractor and kept on the disk."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from common.data.base import STAGES, Split
from common.data.cache import cache_path, cached
from common.data.driving.tracks import EMPTY, TrackedClip, Tracks
from common.data.formats.arrays import mapped
from common.data.videos.base import Clip, Clips, VideoData
from common.errors import InputError
from common.files import written_whole
from common.progress import Progress
from common.typing import Integers
from video_ode.objects.extractor import FeatureExtractor, fingerprint

SAMPLED = 8  # videos whose frames enter the hash of a data set


class FeatureClip(NamedTuple):
    """Batch of videos with the features of their frames.

    Attributes:
        features: Feature maps `[b t c h w]` at each scale, finest first.
        videos: The videos, the boxes of their objects, and perhaps the classes of their pixels.
    """

    features: list[Tensor]
    videos: TrackedClip

    @property
    def clip(self) -> Clip:
        """The videos alone."""
        return self.videos.clip

    def select(self, videos: slice | Sequence[int] | Integers) -> "FeatureClip":
        """Batch of some of the videos."""
        chosen = videos if isinstance(videos, slice | Tensor) else list(videos)
        return FeatureClip([x[chosen] for x in self.features], self.videos.select(chosen))

    def to(self, device: torch.device | str) -> "FeatureClip":
        """Batch with all tensors on a device."""
        features = [x.to(device, non_blocking=x.is_pinned()) for x in self.features]
        return FeatureClip(features, self.videos.to(device))


class FeatureClips(VideoData):
    """Features of the videos of another set, kept on the disk; a batch is a `FeatureClip`.

    All videos of one epoch go through the extractor once, before the training. Features are
    stored in half precision, together with frames, boxes and labels, in a folder whose name has a
    hash of the extractor's weights, of the numbers of videos and frames, and of some videos.

    Args:
        videos: Set that serves `TrackedClip`s, such as `DrivingScenes` with `tracks: true`.
        extractor: Network that gives the features. None: that of the system.
        cache: Folder of the features. None: the folder `dynamical_vision` in `$XDG_CACHE_HOME` or
            in `~/.cache`.
    """

    def __init__(
        self,
        videos: VideoData,
        extractor: FeatureExtractor | None = None,
        cache: str | None = None,
        **serving: Any,
    ) -> None:
        super().__init__(
            n_frames=videos.n_frames,
            n_eval_frames=videos.n_eval_frames,
            observed=1.0,
            pattern="random",
            flip=False,
            **serving,
        )
        self.videos, self.extractor, self.cache = videos, extractor, cache
        self._made_by: dict[Split, str] = {}  # fingerprint of the extractor of each split
        self.shape = videos.shape

    def attach(self, system: nn.Module) -> None:
        """Takes the extractor of a system, if there is none yet.

        Raises:
            InputError: The system has no extractor, or another one than the data.
        """
        extractor = getattr(system, "extractor", None)
        if self.extractor is None:
            if not isinstance(extractor, FeatureExtractor):
                raise InputError(
                    f"got {type(system).__name__}, which has no feature extractor; give "
                    "data.extractor, or a FeaturePredictionModule"
                )
            self.extractor = extractor
        elif isinstance(extractor, FeatureExtractor) and not _same(extractor, self.extractor):
            raise InputError(
                "the features come from another extractor than that of the model; leave "
                "data.extractor out"
            )

    def check(self, extractor: FeatureExtractor, splits: Sequence[Split]) -> None:
        """Checks that the features of splits are those of an extractor.

        Raises:
            InputError: They were made with other weights.
        """
        now = fingerprint(extractor)
        if any(self._made_by.get(split, now) != now for split in splits):
            raise InputError(
                "the checkpoint holds another feature extractor than the configuration, whose "
                "features the data serve; give the configuration and the weights of one training"
            )

    def prepare_data(self) -> None:
        self.videos.prepare_data()
        if self.trainer is None:
            return
        self.attach(self.trainer.lightning_module)
        assert self.extractor is not None
        self.extractor.to(self.trainer.strategy.root_device)
        for split in STAGES[getattr(self.trainer.state.fn, "value", "fit")]:
            self._stored(split)

    def setup(self, stage: str) -> None:
        if self.trainer is not None:  # the data of other devices were not prepared
            self.attach(self.trainer.lightning_module)
        super().setup(stage)

    def clips(self, split: Split) -> Clips:
        return self.videos.clips(split)

    def length(self, split: Split) -> int:
        return self.videos.length(split)

    def dataset(self, split: Split) -> Dataset[Any]:
        return StoredFeatures(self._stored(split))

    def _stored(self, split: Split) -> Path:
        """Folder of the features of a split; they are computed if they are missing."""
        if self.extractor is None:
            raise InputError("got no extractor; give data.extractor, or call attach(system)")
        videos, extractor = self.videos.dataset(split), self.extractor
        self._made_by[split] = fingerprint(extractor)
        folder = cache_path(
            self.cache,
            f"features_{split}",
            version=1,  # another one as soon as the same parameters give other bytes
            extractor=self._made_by[split],
            count=_count(videos),
            videos=_sampled(videos),
        )
        n, scales = _count(videos), len(extractor.channels)
        labels = _tracked(videos.__getitems__([0])).labels is not None  # type: ignore[attr-defined]
        return cached(
            folder,
            lambda: StoredFeatures(folder).check(n, scales, labels),
            lambda: _write(folder, _parts(videos, extractor, f"Features, {split}"), n),
        )


class StoredFeatures(Dataset[FeatureClip]):
    """Features and videos in a folder, read in parts.

    Args:
        folder: Folder, as `FeatureClips` writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scales = len(list(folder.glob("features_*.npy")))
        self.labels = (folder / "labels.npy").exists()

    def __len__(self) -> int:
        return len(mapped(self.folder / "frames.npy"))

    def __getitems__(self, indices: list[int]) -> FeatureClip:
        features = [self._rows(f"features_{i}", indices) for i in range(self.scales)]
        tracks = Tracks(*(self._rows(name, indices) for name in Tracks._fields))
        clip = Clip(
            self._rows("frames", indices),
            self._rows("times", indices),
            self._rows("mask", indices),
            torch.tensor(indices),
        )
        labels = self._rows("labels", indices) if self.labels else None
        return FeatureClip(features, TrackedClip(clip, tracks, labels))

    def check(self, n: int, scales: int, labels: bool) -> None:
        """Checks that features of `n` videos are there, and complete.

        Args:
            n: Number of videos.
            scales: Number of scales.
            labels: Whether there are classes of the pixels, too.

        Raises:
            InputError: They aren't.
        """
        names = ["frames", "times", "mask", *Tracks._fields]
        names += [f"features_{i}" for i in range(scales)] + ["labels"] * labels
        found = {len(mapped(self.folder / f"{name}.npy")) for name in names}
        if found != {n}:
            raise InputError(f"{self.folder} holds features of {found} videos, not of {n}")

    def _rows(self, name: str, indices: list[int]) -> Tensor:
        # Mapped for each batch: a mapped array, sent to a worker, would become a copy of the file.
        return torch.from_numpy(mapped(self.folder / f"{name}.npy")[indices])


def _parts(
    videos: Dataset[Any], extractor: FeatureExtractor, title: str
) -> Iterator[dict[str, np.ndarray]]:
    """Arrays to store, by name, of one video after the other."""
    training, device = extractor.training, next(extractor.parameters()).device
    extractor.eval()
    for i in Progress(range(_count(videos)), title):
        batch = _tracked(videos.__getitems__([i]))  # type: ignore[attr-defined]
        clip = batch.clip.to(device)
        with torch.no_grad():
            features = extractor.features(clip.frames.flatten(0, 1) / 255)
        parts = {f"features_{k}": x.half()[None] for k, x in enumerate(features)}
        parts |= {"frames": clip.frames, "times": clip.own_times(), "mask": clip.mask}
        parts |= batch.tracks._asdict()
        if batch.labels is not None:
            parts["labels"] = batch.labels
        yield {name: x.cpu().numpy() for name, x in parts.items()}
    extractor.train(training)


def _write(folder: Path, parts: Iterator[dict[str, np.ndarray]], n: int) -> None:
    """Writes arrays of `n` videos, each into a file, in parts: together they may be large."""
    tracks: list[dict[str, np.ndarray]] = []
    files: dict[str, IO[bytes]] = {}
    with ExitStack() as stack:
        for part in parts:
            tracks.append({name: part.pop(name) for name in Tracks._fields})
            for name, x in part.items():
                if name not in files:
                    path = stack.enter_context(written_whole(folder / f"{name}.npy"))
                    files[name] = stack.enter_context(path.open("wb"))
                    head = {"descr": x.dtype.str, "fortran_order": False}
                    shape = (n, *x.shape[1:])
                    np.lib.format.write_array_header_1_0(files[name], {**head, "shape": shape})
                files[name].write(np.ascontiguousarray(x).data)
        most = max(part["ids"].shape[2] for part in tracks)
        for name in Tracks._fields:
            padded = [_padded(part[name], most, name) for part in tracks]
            with written_whole(folder / f"{name}.npy") as path, path.open("wb") as file:
                np.save(file, np.concatenate(padded))


def _padded(x: np.ndarray, n: int, name: str) -> np.ndarray:
    """Array of tracks `[1 t m …]` with places for `n` objects."""
    wide = np.full((*x.shape[:2], n, *x.shape[3:]), EMPTY if name in ("ids", "classes") else 0)
    wide = wide.astype(x.dtype)
    wide[:, :, : x.shape[2]] = x
    return wide


def _sampled(videos: Dataset[Any]) -> str:
    """Hash of the frames, times, boxes and labels of some videos, evenly spaced."""
    code = hashlib.sha256()
    for i in np.linspace(0, _count(videos) - 1, SAMPLED).astype(int).tolist():
        batch = _tracked(videos.__getitems__([i]))  # type: ignore[attr-defined]
        clip, labels = batch.clip, () if batch.labels is None else (batch.labels,)
        for x in (clip.frames, clip.own_times(), clip.mask, *batch.tracks, *labels):
            code.update(f"{x.dtype} {tuple(x.shape)}".encode() + x.numpy().tobytes())
    return code.hexdigest()


def _tracked(batch: Any) -> TrackedClip:
    """Batch of videos with boxes.

    Raises:
        InputError: A set without boxes.
    """
    if isinstance(batch, TrackedClip):
        return batch
    raise InputError(
        f"got batches of type {type(batch).__name__} from data.videos; give a set of tracked "
        "objects, such as DrivingScenes with tracks: true"
    )


def _same(extractor: FeatureExtractor, other: FeatureExtractor) -> bool:
    return extractor is other or fingerprint(extractor) == fingerprint(other)


def _count(videos: Dataset[Any]) -> int:
    return len(videos)  # type: ignore[arg-type]
