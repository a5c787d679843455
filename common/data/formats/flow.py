"""Files of optical flow: `.flo` of Middlebury, 16-bit PNG of KITTI, and PFM.

A flow is `float32 [2 h w]`: the motion of each pixel to the right and down, in pixels, from the
first picture to the second.
"""

import re
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from common.errors import InputError, check_output, reason
from common.files import is_file, shown, written_whole
from common.inputs import check_flow

MAGIC = struct.pack("<f", 202021.25)  # the first bytes of a .flo file, "PIEH"
UNKNOWN = 1e9  # in .flo and .pfm, numbers of this size and more stand for an unknown flow
ZERO, SCALE = 2**15, 64  # in PNG, a motion of x pixels is the integer ZERO + SCALE x

PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
RGB16 = (16, 2)  # bits and colour type of a PNG
PNG_RATIO = 1032  # bytes that one byte of a PNG can become at most, by the format of its data
PFM_HEADER = re.compile(rb"PF\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[\d.]+(?:[eE][-+]?\d+)?)[ \t]*\r?\n")


def read_flow(path: str | Path) -> tuple[Tensor, Tensor]:
    """Optical flow of a file, and where it is known.

    The ending of the name tells the format:

    - `.flo`: numbers of 1e9 and more, and NaN, are unknown (Baker et al. 2011).
    - `.png`: 16 bits, the third channel tells where the flow is known (KITTI, Menze 2015).
    - `.pfm`: the third channel is ignored; numbers are unknown as in `.flo` (FlyingThings3D).

    Returns:
        The flow, `float32 [2 h w]` in pixels, 0 where it is unknown; and the mask of the pixels
        where it is known, `bool [h w]`.

    Raises:
        InputError: There is no such file, its name has another ending, or it is damaged or of
            another kind.
    """
    path = Path(path)
    if not is_file(path):
        raise InputError(f"there is no file {shown(path)}; give the path of a local file")
    ending = path.suffix.lower()
    if ending not in _FORMATS:
        raise InputError(f"got {shown(path)}; give a file that ends in {' or '.join(_FORMATS)}")
    try:
        flow, valid = _FORMATS[ending][0](path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{shown(path)} isn't a whole {ending} file of optical flow ({reason(error)}); "
            "download or make it again"
        ) from error
    flow = np.where(valid[..., None], flow, 0).astype(np.float32).transpose(2, 0, 1)
    return torch.tensor(np.ascontiguousarray(flow)), torch.tensor(valid)


def write_flow(path: str | Path, flow: Tensor, valid: Tensor | None = None) -> None:
    """Writes an optical flow to a file, in the format that the ending of its name tells.

    `.flo` and `.pfm` keep the numbers. `.png` rounds them to 1/64 pixel and holds motions from
    -512 to 511.98 pixels.

    Args:
        path: File to write, with the ending `.flo`, `.png` or `.pfm`; see `read_flow`.
        flow: Motion to the right and down in pixels, `[2 h w]`.
        valid: Where the flow is known, `bool [h w]`. None: everywhere.

    Raises:
        InputError: Another ending or shape, or a known motion that is NaN, infinite, or outside
            the range of the format.
    """
    check_output(path, *_FORMATS, name="path")
    check_flow(flow, valid)
    if flow.ndim != 3:
        raise InputError(f"got a flow of {list(flow.shape)}; give [2 h w], one flow for each file")
    valid = torch.ones_like(flow[0], dtype=torch.bool) if valid is None else valid
    ending = Path(path).suffix.lower()
    low, high = (-ZERO / SCALE, (ZERO - 1) / SCALE) if ending == ".png" else (-UNKNOWN, UNKNOWN)
    pixels = flow.detach().cpu().double().movedim(0, 2).numpy()
    known = valid.cpu().numpy()
    found = pixels[known]
    if not ((found >= low) & (found <= high) & (np.abs(found) < UNKNOWN)).all():
        raise InputError(
            f"got a flow from {found.min():g} to {found.max():g} pixels, but {ending} holds "
            f"numbers from {low:g} to {high:g}; mark other pixels as not valid"
        )
    content = _FORMATS[ending][1](np.where(known[..., None], pixels, 0), known)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def _of_flo(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if content[:4] != MAGIC:
        raise ValueError(f"it starts with {content[:4]!r}, not with {MAGIC!r}")
    if len(content) < 12:
        raise ValueError("it ends within the header")
    width, height = struct.unpack("<ii", content[4:12])
    return _known(_numbers(content, 12, "<", (height, width, 2)))


def _as_flo(flow: np.ndarray, valid: np.ndarray) -> bytes:
    size = struct.pack("<ii", *flow.shape[1::-1])
    return MAGIC + size + np.where(valid[..., None], flow, 10 * UNKNOWN).astype("<f4").tobytes()


def _of_pfm(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    header = PFM_HEADER.match(content)
    if not header:
        raise ValueError("it has no header of a PFM of three channels, such as 'PF 640 480 -1'")
    width, height, scale = int(header[1]), int(header[2]), float(header[3])
    if scale == 0:
        raise ValueError("its scale is 0")
    order = "<" if scale < 0 else ">"  # its size is a unit that nobody uses
    pixels = _numbers(content, header.end(), order, (height, width, 3))
    return _known(pixels[::-1, :, :2])


def _as_pfm(flow: np.ndarray, valid: np.ndarray) -> bytes:
    pixels = np.pad(np.where(valid[..., None], flow, np.inf), ((0, 0), (0, 0), (0, 1)))
    height, width = valid.shape
    return f"PF\n{width} {height}\n-1.0\n".encode() + pixels[::-1].astype("<f4").tobytes()


def _of_png(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if content[: len(PNG_START)] != PNG_START or len(content) < 26:
        raise ValueError("it doesn't start as a PNG")
    width, height, *kind = struct.unpack(">IIBB", content[16:26])
    if tuple(kind) != RGB16:
        raise ValueError(
            f"it has {kind[0]} bits and colour type {kind[1]}, not 16 bits and colour type 2"
        )
    if 6 * width * height > PNG_RATIO * len(content):
        raise ValueError(f"{len(content)} bytes can't hold {height} x {width} pixels")
    codec = av.CodecContext.create("png", "r")
    try:
        (frame,) = [*codec.decode(av.Packet(content)), *codec.decode(None)]
    except av.FFmpegError as error:
        raise ValueError("its pixels are damaged or cut off") from error
    pixels = frame.to_ndarray()
    return (pixels[..., :2].astype(np.float32) - ZERO) / SCALE, pixels[..., 2] != 0


def _as_png(flow: np.ndarray, valid: np.ndarray) -> bytes:
    codes = np.where(valid[..., None], np.rint(ZERO + SCALE * flow), 0)
    pixels = np.concatenate([codes, valid[..., None]], 2).astype(np.uint16)
    # PyAV, because Pillow makes 8 bits of 16-bit colours.
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = valid.shape
    codec.pix_fmt, codec.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, "rgb48be")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def _numbers(content: bytes, start: int, order: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Numbers of 4 bytes `[h w c]` after a header, whose size the length of the file proves."""
    height, width, channels = shape
    needs = start + 4 * channels * height * width
    if min(shape) < 1 or len(content) != needs:
        raise ValueError(
            f"{height} x {width} pixels make {needs} bytes, but it has {len(content)}"
        )
    return np.frombuffer(content, f"{order}f4", offset=start).reshape(shape)


def _known(flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return flow, (np.abs(flow) < UNKNOWN).all(2)


_FORMATS = {".flo": (_of_flo, _as_flo), ".png": (_of_png, _as_png), ".pfm": (_of_pfm, _as_pfm)}
