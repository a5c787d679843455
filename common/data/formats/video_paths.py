"""Search for videos under a folder: video files, and folders of numbered frames."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_warn

from common.errors import InputError

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".gif", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".flv", ".3gp", ".wmv"),
)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
UNREAD_SUFFIXES = (".heic", ".heif", ".avif", ".jp2", ".dng", ".ogv", ".vob", ".rm", ".swf")


def videos_under(root: Path) -> dict[str, Path]:
    """Paths of all videos under a folder: video files and folders of numbered frames.

    Images whose names differ in more than the numbers, such as `left1` and `right1`, are frames of
    different videos of one folder; such a video has a pattern for a path, such as `left*`. Left
    out are images in a folder with video files, images without a number, single images beside
    videos of several, and hidden files. Files of other kinds of videos and images are named in a
    warning.

    Returns:
        The paths by their names, sorted by name. A name is the path relative to `root`.

    Raises:
        InputError: `root` is no folder.
    """
    root = root.expanduser()
    found: list[Path] = []
    unread: list[str] = []
    for here, files in folders_under(root, "videos"):
        videos = [f for f in files if f.lower().endswith(VIDEO_SUFFIXES)]
        found += [here / f for f in videos]
        found += [] if videos else _frame_videos(here, files)
        unread += [f for f in files if f.lower().endswith(UNREAD_SUFFIXES)]
    warn_of_unread(root, unread, VIDEO_SUFFIXES + IMAGE_SUFFIXES)
    return dict(sorted((path.relative_to(root).as_posix(), path) for path in found))


def folders_under(root: Path, content: str) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all folders under it, each with the names of its files.

    Links are followed, but not round in circles. Hidden files and folders are left out, and
    folders that can't be read with a warning.

    Args:
        root: The folder.
        content: Plural noun for what it should hold, used in error messages.

    Raises:
        InputError: `root` is no folder.
    """
    if not root.is_dir():
        raise InputError(
            f"got data.root {root}, which is no folder; give the folder that has the {content}"
        )
    tell = lambda error: rank_zero_warn(f"left out {error.filename}: {error.strerror}")
    for folder, folders, files in os.walk(root, onerror=tell, followlinks=True):
        folders[:] = [name for name in folders if not _is_skipped(Path(folder, name))]
        yield Path(folder), [name for name in files if name[0] != "."]


def warn_of_unread(root: Path, unread: list[str], kinds: tuple[str, ...]) -> None:
    """Warns of files that are left out because of their kind.

    Args:
        root: Folder of the files.
        unread: Names of the files.
        kinds: Endings of the names of files that can be read.
    """
    if unread:
        rank_zero_warn(
            f"left out {len(unread)} files in {root} of kinds that can't be read, such as "
            f"{unread[0]}; convert them to one of {' '.join(kinds)}"
        )


def frame_files(path: Path) -> list[Path]:
    """Numbered images in the order of their numbers.

    Args:
        path: A folder, or the pattern of its images that are frames of one video, such as
            `folder/left*`, where `*` stands for numbers.
    """
    folder = path.parent if is_pattern(path) else path
    files = [
        file
        for file in folder.iterdir()
        if _is_frame(file.name) and path.name in (folder.name, _pattern(file.name))
    ]
    return sorted(files, key=lambda file: (natural_sort_key(file.name), file.name))


def is_pattern(path: Path) -> bool:
    """True for the pattern of numbered images, which is the path of no file."""
    return "*" in path.name and not path.exists()


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Sort key of a name that orders the numbers inside names by their values."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _frame_videos(folder: Path, files: list[str]) -> list[Path]:
    """Paths of the videos that the numbered images of a folder are."""
    counts = Counter(_pattern(name) for name in files if _is_frame(name))
    several = [pattern for pattern, count in counts.items() if count > 1]
    if len(several) > 1:
        return [folder / pattern for pattern in several]
    return [folder] if len(counts) == 1 else [folder / pattern for pattern in several]


def _pattern(name: str) -> str:
    """Name of an image without its ending, with `*` in place of each number."""
    return re.sub("[0-9]+", "*", os.path.splitext(name)[0].lower())


def _is_frame(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in IMAGE_SUFFIXES and name[0] != "." and bool(re.search("[0-9]", stem))


def _is_skipped(folder: Path) -> bool:
    """True for a hidden folder, or a link to a folder that contains it (an endless loop)."""
    if folder.name[0] == "." or not folder.is_symlink():
        return folder.name[0] == "."
    return folder.resolve() in [parent.resolve() for parent in folder.parents]
