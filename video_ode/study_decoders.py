"""Study of decoders from the features of a detector back to frames (Predoc III, section 5.2).

python -m video_ode.study_decoders FILE [--seeds 1]
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from common.data.driving.scenes import DrivingScenes
from common.errors import InputError, check_counts, check_output
from common.experiments import Columns, Scores, results_table, run_grid, write_report
from common.training.cli import run_command
from common.typing import Image
from video_ode.cli import main
from video_ode.objects.decoders.evaluation import DecodedScores
from video_ode.objects.decoders.inversion import OptimizedDecoder
from video_ode.objects.decoders.module import FrameDecoderModule
from video_ode.objects.detection.yolo import YOLO
from video_ode.objects.extractor import fingerprint
from video_ode.objects.feature_clips import FeatureClip
from video_ode.objects.module import FeaturePredictionModule
from video_ode.predictor import to_unit

CONFIGS = Path(__file__).parent / "configs/objects"
BASE = "decoder.yaml"
# By the name of the row, the overlay of BASE.
DECODERS: dict[str, str | None] = {
    "i-RevNet, features only": "decoder_irevnet_features",
    "i-RevNet, both ways": "decoder_irevnet_both",
    "residual flow, both ways": "decoder_residual_both",
    "convolutional": "decoder_convolutional",
    "convolutional, noise": "decoder_convolutional_noise",
    "convolutional, cycle": None,
}
OPTIMIZED = "image optimisation"  # the row that needs no training
STEPS, RATE = 40, 0.1
SCALE, SHAPE = 1, (3, 128, 128)  # of the features and of the frames in BASE
LATER = (3, 6)  # frames after the last given one
TRUE = "true"
SCORES = {
    "PSNR": ("psnr", ".2f"),
    "feature error": ("feature_error", ".3f"),
    "agreement": ("agreement50", ".3f"),
}
COLUMNS: Columns = {
    f"{heading}, {source}": (f"{key} {source}", form)
    for heading, (key, form) in SCORES.items()
    for source in (TRUE, *(f"+{k}" for k in LATER))
}


class Part(NamedTuple):
    """Features to decode, of one frame of each test video.

    Attributes:
        source: Where they come from: the true frame, or a prediction some frames ahead.
        frame: Number of the frame.
        features: Feature maps `[b c h w]` at each scale.
        last: Last given frames, `[b 3 h w]` in `[0, 1]`.
    """

    source: str
    frame: int
    features: list[Tensor]
    last: Image


Decoding = Callable[[Part], Image]  # from features to frames in [0, 1]


def frames(
    ckpt_path: Path,
    seeds: int = 1,
    n: int = 50,
    out: Path = Path("lightning_logs/study_decoders"),
    cache: str | None = None,
) -> None:
    """Trains decoders, and decodes true and predicted features; writes `frames.md`.

    The features are those of the true frames 3 and 6 frames after the last given one, and those
    that a model predicts for these frames. `frames.png` shows decoded frames of two videos.

    Args:
        ckpt_path: Checkpoint file of a model that predicts features, such as that of
            `feature_ode.yaml`.
        seeds: Number of trainings of each decoder.
        n: Number of test videos.
        out: Folder of the runs, the table and the picture.
        cache: Folder of the features of the training videos. None: that of `FeatureClips`.
    """
    check_counts(2, n=n)
    check_output(out)
    model = FeaturePredictionModule.load_from_checkpoint(ckpt_path).eval()
    if fingerprint(model.extractor) != fingerprint(YOLO.pretrained()):
        raise InputError(
            f"{ckpt_path} predicts the features of another extractor than YOLO.pretrained(), "
            "whose features the decoders take; give a checkpoint of feature_ode.yaml"
        )
    batch, parts = decoded_parts(model, n)
    optimized = OptimizedDecoder(SHAPE, model.extractor, SCALE, STEPS, RATE)

    def trained(name: str, seed: int) -> Decoding:
        if name == OPTIMIZED:
            return lambda part: optimized(part.features[SCALE], part.last)
        runs = out / f"{_file_name(name)}_{seed}"
        path = max(runs.glob("*/*/*/checkpoints/last.ckpt"), key=lambda p: p.stat().st_mtime)
        decoder = FrameDecoderModule.load_from_checkpoint(path).eval()
        return lambda part: decoder(part.features[SCALE], part.last)

    def run(settings: Any, seed: int) -> Scores:
        return scores(model, batch, parts, trained(settings["name"], seed))

    train(seeds, out, cache)
    same = {"n": n, "model": fingerprint(model), "optimized": [STEPS, RATE]}
    texts = {p.name: p.read_text() for p in (CONFIGS / BASE, *CONFIGS.glob("ablations/*.yaml"))}
    rows = {name: {"name": name, "texts": texts, **same} for name in (*DECODERS, OPTIMIZED)}
    results = run_grid(out / "scores", rows, seeds, run)
    baselines: dict[str, Decoding | None] = {
        "features themselves": None,
        "last given frame": lambda part: part.last,
        "mean colour": lambda part: _mean_colour(batch, part),
    }
    for name, decoding in baselines.items():
        results[f"*{name}*"] = [scores(model, batch, parts, decoding)]
    write_report(out / "frames.md", results_table(results, COLUMNS, f"{seeds} seeds"))
    shown = {name: trained(name, 0) for name in rows}
    picture(batch, parts, shown).savefig(out / "frames.png", dpi=100)
    print(f"picture: {(out / 'frames.png').resolve()}")


def train(seeds: int, out: Path, cache: str | None) -> None:
    """Trains each decoder with each seed, except those that are trained already."""

    def run(settings: Any, seed: int) -> Scores:
        words = ["--trainer.default_root_dir", str(out / f"{settings['name']}_{seed}")]
        words += [] if cache is None else ["--data.cache", cache]
        files = [f"--config={CONFIGS / path}" for path in settings["configs"]]
        main(["fit", *files, "--seed_everything", str(seed), *words])
        return {}

    rows = {}
    for name, overlay in DECODERS.items():
        more = [] if overlay is None else [f"ablations/{overlay}.yaml"]
        texts = [(CONFIGS / path).read_text() for path in (BASE, *more)]
        rows[name] = {"name": _file_name(name), "configs": [BASE, *more], "texts": texts}
    run_grid(out / "trainings", rows, seeds, run)


@torch.no_grad()
def decoded_parts(model: FeaturePredictionModule, n: int) -> tuple[FeatureClip, list[Part]]:
    """Test videos, and their true and predicted features to decode."""
    n_cond = model.n_cond
    data = DrivingScenes(
        SHAPE[1:], tracks=True, n_test=n, n_eval_frames=n_cond + max(LATER), batch_size=n
    )
    data.prepare_data()
    data.setup("test")
    batch = model.features_of(next(iter(data.test_dataloader())))
    predicted = model(batch, batch.clip.times[..., n_cond:]).features
    last = to_unit(batch.clip.frames[:, n_cond - 1])
    parts = []
    for k in LATER:
        frame = n_cond + k - 1
        parts.append(Part(TRUE, frame, [x[:, frame] for x in batch.features], last))
        parts.append(Part(f"+{k}", frame, [x[:, k - 1] for x in predicted], last))
    return batch, parts


@torch.no_grad()
def scores(
    model: FeaturePredictionModule,
    batch: FeatureClip,
    parts: list[Part],
    decoding: Decoding | None,
) -> Scores:
    """Scores of decoded frames, by name and source of the features.

    With None in place of a decoding, those of the features themselves, without PSNR.
    """
    found: dict[str, DecodedScores] = {}
    for part in parts:
        of_source = found.setdefault(part.source, DecodedScores(model.extractor, SCALE))
        if decoding is None:
            of_source.update_seen(part.features, batch, part.frame)
        else:
            of_source.update(decoding(part), batch, part.frame)
    return {
        f"{name} {source}": value
        for source, of_source in found.items()
        for name, value in of_source.compute().items()
    }


@torch.no_grad()
def picture(batch: FeatureClip, parts: list[Part], rows: Mapping[str, Decoding]) -> Figure:
    """Figure of two videos: the true frames, and below them a row for each decoder.

    Its columns are the true features of the first time, then the predicted ones.
    """
    parts = [parts[0], *(part for part in parts if part.source != TRUE)]
    lines = {"true frame": [to_unit(batch.clip.frames[:2, part.frame]) for part in parts]}
    few = [Part(p.source, p.frame, [x[:2] for x in p.features], p.last[:2]) for p in parts]
    lines |= {name: [decoding(part) for part in few] for name, decoding in rows.items()}
    figure = Figure((2 * len(parts) * 1.05 + 1.6, len(lines) * 1.05 + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(lines), 2 * len(parts), squeeze=False)
    for axes, (name, decoded) in zip(panels, lines.items(), strict=True):
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center")
        shown = [of_part[k] for k in range(2) for of_part in decoded]
        for panel, frame in zip(axes, shown, strict=True):
            panel.imshow(frame.permute(1, 2, 0).numpy())
            panel.set(xticks=[], yticks=[])
    for panel, part in zip(panels[0], [*parts, *parts], strict=True):
        after = part.frame - parts[0].frame + LATER[0]
        panel.set_title(f"+{after}, {'true' if part.source == TRUE else 'predicted'}", fontsize=9)
    return figure


def _mean_colour(batch: FeatureClip, part: Part) -> Image:
    """Frames of one colour, the mean of the true frame."""
    true = to_unit(batch.clip.frames[:, part.frame])
    return true.mean((2, 3), keepdim=True).expand_as(true)


def _file_name(name: str) -> str:
    return name.replace(",", "").replace(" ", "_")


if __name__ == "__main__":
    run_command([frames])
