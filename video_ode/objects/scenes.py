"""Scenes that show predicted features as their extractor reads them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.data.driving.scenes import DrivingScenes
from common.data.driving.tracks import TrackedClip, Tracks
from common.data.videos.base import VideoData
from common.errors import InputError
from common.typing import Times
from video_ode.evaluation.pictures import TOLERANCE, Scene
from video_ode.evaluation.rows import Kind, Row, numbered
from video_ode.objects.decoders.base import FeatureDecoder
from video_ode.objects.extractor import FeatureExtractor
from video_ode.objects.feature_clips import FeatureClips
from video_ode.predictor import to_pixels


def feature_scenes(
    extractor: FeatureExtractor,
    decoder: FeatureDecoder | None,
    videos: TrackedClip,
    paths: Sequence[Sequence[Tensor]],
    given: Tensor,
) -> list[Scene]:
    """Scenes of videos: the truth, and below it what is read from each sample of the features.

    Args:
        extractor: Network that reads features.
        decoder: Decoder of the features of one scale; decoded frames get rows of their own. None:
            readings are drawn on the true frames only.
        videos: The true videos at the times of the samples.
        paths: Samples, each feature maps `[b t c h w]`.
        given: Whether each time is between the first and the last conditioning frame, `[t]`.
    """
    times = videos.clip.own_times()[0].tolist()
    kinds: list[Kind] = ["given" if x else "predicted" for x in given.tolist()]
    true: list[Kind] = ["true"] * len(kinds)

    def row(frames: Tensor, readings: Sequence[object], kinds: Sequence[Kind], label: str) -> Row:
        pairs = zip(frames, readings, strict=True)
        return Row(torch.stack([extractor.drawn(*pair) for pair in pairs]), kinds, label)

    scenes = []
    truths = [extractor.truths(videos, k) for k in range(len(kinds))]
    for i, frames in enumerate(videos.clip.frames):
        truth = row(frames, [each[i] for each in truths], true, "truth")
        rows = []
        for k, path in enumerate(paths):
            features = [x[i] for x in path]
            readings = extractor.readings(features)
            rows.append(row(frames, readings, kinds, numbered("sample", k)))
            if decoder is not None:
                decoded = to_pixels(decoder(scale_of(decoder, features)))
                rows.append(row(decoded, readings, kinds, "decoded"))
        scenes.append(Scene(None, truth, truth, rows, times))
    return scenes


def moments(videos: TrackedClip, data: VideoData | None, times: Times) -> TrackedClip:
    """Test videos at other times, with the boxes of their objects and the labels there.

    Args:
        videos: The test videos.
        data: Set that they come from. A simulated set shows them at any time from 0 on; of other
            sets each frame is shown until the next one.
        times: Times in any order.
    """
    source = data.videos if isinstance(data, FeatureClips) else data
    clip = videos.clip
    if isinstance(source, DrivingScenes) and bool((times >= 0).all()):
        numbers, at = clip.number.cpu(), times.cpu()
        simulator = source.simulator("test")  # one for all, so that a picture is rendered once
        frames, tracks = simulator.videos(numbers, at), simulator.trajectories(numbers, at)
        labels = None if videos.labels is None else simulator.labels(at, numbers.tolist())
        return TrackedClip(clip._replace(frames=frames, times=times), tracks, labels)
    own = clip.own_times()[0]
    held = (torch.searchsorted(own, times + TOLERANCE, right=True) - 1).clamp(0)
    tracks = Tracks(*(x[:, held] for x in videos.tracks))
    labels = None if videos.labels is None else videos.labels[:, held]
    return TrackedClip(clip._replace(frames=clip.frames[:, held], times=times), tracks, labels)


def scale_of(decoder: FeatureDecoder, features: Sequence[Tensor]) -> Tensor:
    """The feature map `[n c h w]` that a decoder takes.

    Raises:
        InputError: It takes none of them.
    """
    for x in features:
        if tuple(x.shape[1:]) == decoder.feature_shape:
            return x
    shapes = [tuple(x.shape[1:]) for x in features]
    raise InputError(
        f"got a decoder of features {decoder.feature_shape}, but the extractor gives {shapes}; "
        "change the decoder's shapes"
    )
