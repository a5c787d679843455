"""Picture of the architecture: two pipes, and the rooms with their imports.

    python docs/draw_architecture.py

writes `docs/architecture.svg`, plain text that is the same on every machine; a test compares it.
"""

from html import escape
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 1200, 1112, 30
BOX, BOX_HEIGHT, GAP = 160, 84, 36
BLUE, GREEN, PURPLE, YELLOW, GREY = "#dbe9f6", "#dff0d8", "#ebe0f5", "#fdf3d0", "#f2f2f2"
INK, SOFT = "#222222", "#666666"

# Name, shape of the result, folder or file.
IMAGES = [
    ("bytes", "uint8 [b c h w]", "common/data/images"),
    ("dequantize", "u [b c h w], ladj [b]", "common/flows/pixel.py"),
    ("pixel map", "x [b c h w], ladj [b]", "common/flows/pixel.py"),
    ("pyramid", "coarse, details", "common/flows/pyramid.py"),
    ("CNF of each scale", "z_s, ladj_s [b]", "common/flows/cnf.py"),
    ("standard normal", "log N(z_s) [b]", "common/flows/base.py"),
]
FRAMES = [
    ("clip", "uint8 [b t c h w], times", "common/data/videos"),
    ("encoder", "codes [b t d]", "video_ode/frames"),
    ("posterior", "z0 [b d], kl [b]", "video_ode/latent_ode"),
    ("dynamics", "path [b t d], kl [b]", "video_ode/dynamics"),
    ("decoder", "frames [b t c h w]", "video_ode/frames"),
    ("loss", "reconstruction + KLs", "video_ode/elbo.py"),
]
PACKAGES = [
    ("msflow", "images", "flow, objectives, module, cli", BLUE),
    ("video_ode", "videos", "dynamics, frames, evaluation, systems", GREEN),
    ("mimic", "features that share little", "plug-in, audits, metrics, studies", PURPLE),
]
# Rooms of `common`, from the top to the bottom: each row imports the rows below it.
ROOMS = [
    [("experiments", "grids of runs, resumable, and their tables")],
    [("training", "systems, checkpoints, runs, failures, command line")],
    [
        ("metrics", "PSNR, SSIM, FID"),
        ("data", "images, videos, fields"),
        ("flows", "bijections, CNF"),
    ],
    [("nn", "vector fields, perceptrons")],
    [
        ("ode", "ODE and SDE solvers, divergence, regularisers"),
        ("inputs", "pictures that users give: one convention"),
    ],
    [("typing", "named shapes"), ("files", "whole writes, safe reads")],
    [
        ("errors", "errors for users, checks of options"),
        ("signals", "signals that stop a run"),
        ("progress", "bars, and lines in pipes"),
    ],
]


def picture() -> str:
    """The whole picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="DejaVu Sans, Verdana, sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" '
        f'markerHeight="8" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{INK}"/>'
        "</marker></defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *images_pipe(50),
        *frames_pipe(340),
        *rooms(580),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def images_pipe(top: int) -> list[str]:
    """The pipe of images: from bytes to bits per dimension, and backwards to samples."""
    y, bar = top + 60, top + 60 + BOX_HEIGHT + 44
    parts = [text(MARGIN, top - 12, "Images", 20, bold=True)]
    start, end = centre(len(IMAGES) - 1), centre(0)
    parts.append(line([(start, y), (start, y - 28), (end, y - 28), (end, y)], dashed=True))
    parts.append(text(WIDTH / 2, y - 36, "sampling: the same pipe, read backwards", 13, "middle"))
    parts += pipe(IMAGES, y, BLUE)
    for i in (1, 2, 4, 5):
        parts.append(line([(centre(i), y + BOX_HEIGHT), (centre(i), bar)]))
        parts.append(text(centre(i) + 8, bar - 14, "+ [b]", 12))
    left, right = centre(1) - BOX / 2, centre(5) + BOX / 2
    parts.append(box(left, bar, right - left, 40, YELLOW))
    total = "sum = log_prob [b]  →  bits_per_dim [b]          msflow/flow.py, msflow/objectives.py"
    parts.append(text((left + right) / 2, bar + 25, total, 14, "middle"))
    return parts


def frames_pipe(top: int) -> list[str]:
    """The pipe of frames: from given frames to a latent path, and to frames at any times."""
    y = top + 20
    parts = [text(MARGIN, top - 6, "Frames", 20, bold=True), *pipe(FRAMES, y, GREEN)]
    bottom, below = y + BOX_HEIGHT, y + BOX_HEIGHT + 36
    parts.append(line([(centre(0), bottom), (centre(0), below), (centre(5), below),
                       (centre(5), bottom)], dashed=True))  # fmt: skip
    parts.append(text(WIDTH / 2, below - 9, "training: the true frames", 13, "middle"))
    parts.append(line([(centre(3), y - 34), (centre(3), y)]))
    parts.append(text(centre(3) + 10, y - 16, "any times [t] or [b t]", 13))
    return parts


def rooms(top: int) -> list[str]:
    """The rooms: three packages on `common`, and the rows inside it."""
    parts = [text(MARGIN, top - 6, "Rooms: an arrow means “imports”", 20, bold=True)]
    width, y = (WIDTH - 2 * MARGIN - 2 * GAP) / 3, top + 16
    for i, (name, purpose, inside, fill) in enumerate(PACKAGES):
        x = MARGIN + i * (width + GAP)
        parts.append(box(x, y, width, 64, fill))
        parts.append(text(x + width / 2, y + 26, f"{name}: {purpose}", 15, "middle", bold=True))
        parts.append(text(x + width / 2, y + 49, inside, 13, "middle"))
        parts.append(line([(x + width / 2, y + 64), (x + width / 2, y + 94)]))
    y += 94
    parts.append(box(MARGIN, y, WIDTH - 2 * MARGIN, HEIGHT - y - 16, GREY))
    parts.append(text(MARGIN + 14, y + 24, "common", 15, bold=True))
    y += 12
    for k, row in enumerate(ROOMS):
        parts += room_row(row, y)
        if k:
            parts.append(line([(WIDTH / 2, y - 20), (WIDTH / 2, y)]))
        y += 56
    return parts


def room_row(row: list[tuple[str, str]], y: float) -> list[str]:
    """One row of rooms side by side."""
    left, total = 130, WIDTH - 160 - MARGIN
    width = (total - 20 * (len(row) - 1)) / len(row)
    parts = []
    for i, (name, inside) in enumerate(row):
        x = left + i * (width + 20)
        parts.append(box(x, y, width, 36, "white"))
        parts.append(text(x + 12, y + 23, name, 14, bold=True))
        parts.append(text(x + 122, y + 23, inside, 13))
    return parts


def pipe(stations: list[tuple[str, str, str]], y: float, fill: str) -> list[str]:
    """Boxes from left to right, with arrows between them."""
    parts = []
    for i, (name, shape, place) in enumerate(stations):
        x = centre(i)
        parts.append(box(x - BOX / 2, y, BOX, BOX_HEIGHT, fill))
        parts.append(text(x, y + 24, name, 14, "middle", bold=True))
        parts.append(text(x, y + 47, shape, 12, "middle"))
        parts.append(text(x, y + 70, place, 11, "middle", colour=SOFT))
        if i:
            parts.append(line([(x - BOX / 2 - GAP, y + 42), (x - BOX / 2, y + 42)]))
    return parts


def centre(i: int) -> float:
    """Middle of station `i` of a pipe, in px from the left."""
    return MARGIN + BOX / 2 + i * (BOX + GAP)


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    """Rectangle with round corners."""
    size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"'
    return f'<rect {size} fill="{fill}" stroke="{SOFT}"/>'


def line(points: list[tuple[float, float]], dashed: bool = False) -> str:
    """Line through points, with an arrow at its end."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="6 4"' if dashed else ""
    style = f'fill="none" stroke="{INK}" stroke-width="1.4"{dashes} marker-end="url(#tip)"'
    return f'<polyline points="{path}" {style}/>'


def text(
    x: float,
    y: float,
    words: str,
    size: int,
    anchor: str = "start",
    colour: str = INK,
    bold: bool = False,
) -> str:
    """Line of text; `x` is the place of its anchor."""
    style = f'font-size="{size}" text-anchor="{anchor}" fill="{colour}"'
    weight = ' font-weight="bold"' if bold else ""
    place = f'x="{x:g}" y="{y:g}" {style}{weight} xml:space="preserve"'
    return f"<text {place}>{escape(words)}</text>"


if __name__ == "__main__":
    path = Path(__file__).with_name("architecture.svg")
    path.write_text(picture(), encoding="utf-8")
    print(f"picture: {path}")
