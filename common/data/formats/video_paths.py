"""Search for videos under a folder: video files, and folders of numbered frames."""

import os
import re
from pathlib import Path

from common.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".gif")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def videos_under(root: Path) -> dict[str, Path]:
    """Paths of all videos under a folder: video files and folders of numbered frames.

    Left out are images in a folder with video files, images without a number, and hidden files.

    Returns:
        The paths by their names, sorted by name. A name is the path relative to `root`.

    Raises:
        InputError: `root` is no folder.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise InputError(
            f"got data.root {root}, which is no folder; give the folder that has the videos"
        )
    found: list[Path] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        folders[:] = [name for name in folders if not _is_skipped(here / name)]
        videos = [f for f in files if f.lower().endswith(VIDEO_SUFFIXES) and f[0] != "."]
        found += [here / f for f in videos]
        if not videos and any(map(_is_frame, files)):
            found.append(here)
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in found))


def frame_files(folder: Path) -> list[Path]:
    """Numbered images in a folder, in the order of their numbers."""
    files = [file for file in folder.iterdir() if _is_frame(file.name)]
    return sorted(files, key=lambda file: (natural_sort_key(file.name), file.name))


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Sort key of a name that orders the numbers inside names by their values."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _is_frame(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in IMAGE_SUFFIXES and name[0] != "." and bool(re.search("[0-9]", stem))


def _is_skipped(folder: Path) -> bool:
    """True for a hidden folder, or a link to a folder that contains it (an endless loop)."""
    return folder.name[0] == "." or (folder.is_symlink() and folder.resolve() in folder.parents)
