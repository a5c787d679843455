import io
import struct
import zlib

import av
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.formats.flow import read_flow, write_flow
from common.errors import InputError

FLOW = torch.tensor([[[1.5, -2.25, 0.0], [300.0, -511.5, 7.0]], [[0.5, 3.0, -9.0], [1, 2, 4.5]]])
VALID = torch.tensor([[True, True, False], [True, True, True]])
ENDINGS = (".flo", ".png", ".pfm")


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(pixels, bits=16, colour=2, size=None):
    """PNG of `[h w 3]`, written by hand: unfiltered rows of big-endian integers."""
    height, width = size or pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def png_pixels(content):
    """Pixels of a 16-bit RGB PNG, decoded by hand (PNG specification, section 9)."""
    width, height = struct.unpack(">II", content[16:24])
    at, data = 8, b""
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(data)
    stride, before, rows = 6 * width, bytearray(6 * width), []
    for y in range(height):
        kind, row = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1 :][:stride])
        for i in range(stride):
            a, c = (row[i - 6], before[i - 6]) if i >= 6 else (0, 0)
            b = before[i]
            paeth = min((a, b, c), key=lambda value: abs(a + b - c - value))
            row[i] = (row[i] + (0, a, b, (a + b) // 2, paeth)[kind]) % 256
        before = row
        rows.append(np.frombuffer(row, ">u2").reshape(width, 3))
    return np.stack(rows)


def flo(flow, width=None, height=None):
    """.flo of `[2 h w]`, written by hand."""
    _, rows, columns = flow.shape
    numbers = [flow[c, y, x] for y in range(rows) for x in range(columns) for c in (0, 1)]
    header = struct.pack("<fii", 202021.25, width or columns, height or rows)
    return header + struct.pack(f"<{len(numbers)}f", *numbers)


def pfm(flow, order="<"):
    """PFM of `[2 h w]`, written by hand, with 5 in the third channel."""
    _, rows, columns = flow.shape
    header = f"PF\n{columns} {rows}\n{-1.0 if order == '<' else 1.0}\n".encode()
    numbers = [
        (flow[0, y, x], flow[1, y, x], 5) for y in reversed(range(rows)) for x in range(columns)
    ]
    return header + struct.pack(f"{order}{3 * len(numbers)}f", *np.ravel(numbers))


def with_unknown(value):
    flow = FLOW.clone()
    flow[:, ~VALID] = value
    return flow.numpy()


def kitti(flow):
    codes = np.stack([*(64 * flow + 2**15).long().numpy(), VALID.numpy()], 2)
    return codes.astype(np.uint16)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".flo", flo(with_unknown(1e9))),
        (".flo", flo(with_unknown(-1.7e9))),
        (".FLO", flo(with_unknown(float("nan")))),
        (".pfm", pfm(with_unknown(float("inf")))),
        (".pfm", pfm(with_unknown(1e9), ">")),
        (".png", png(kitti(FLOW))),
    ],
)
def test_files_written_by_hand_are_read(tmp_path, ending, content):
    path = tmp_path / f"flow{ending}"
    path.write_bytes(content)
    flow, valid = read_flow(path)
    assert flow.dtype == torch.float32
    assert torch.equal(valid, VALID)
    assert torch.equal(flow, FLOW * VALID)


def test_written_flo_has_the_bytes_of_the_format(tmp_path):
    write_flow(tmp_path / "a.flo", FLOW, VALID)
    assert (tmp_path / "a.flo").read_bytes() == flo(with_unknown(1e10))


def test_written_png_is_decoded_by_hand_and_by_pillow(tmp_path):
    flow = 40 * torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0))
    valid = flow[0] > -20
    write_flow(tmp_path / "a.png", flow, valid)
    pixels = png_pixels((tmp_path / "a.png").read_bytes())
    # KITTI's own formula: integer of 64 times the motion plus 2^15, 0 where not valid
    wanted = np.floor(64 * flow.double().numpy() + 2**15 + 0.5) * valid.numpy()
    assert np.array_equal(pixels[..., :2].transpose(2, 0, 1), wanted)
    assert np.array_equal(pixels[..., 2], valid.numpy())
    high = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))  # it keeps the higher byte
    assert np.array_equal(high, pixels >> 8)


def test_written_pfm_is_decoded_by_ffmpeg(tmp_path):
    write_flow(tmp_path / "a.pfm", FLOW)
    codec = av.CodecContext.create("pfm", "r")
    content = (tmp_path / "a.pfm").read_bytes()
    (frame,) = [*codec.decode(av.Packet(content)), *codec.decode(None)]
    decoded = torch.tensor(frame.to_ndarray()).movedim(2, 0)
    assert torch.equal(decoded, torch.cat([FLOW, torch.zeros(1, 2, 3)]))


@pytest.mark.parametrize(("ending", "error"), [(".flo", 0), (".png", 1 / 128), (".pfm", 0)])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (37, 20)])
def test_round_trip_keeps_the_flow_to_the_stated_rounding(tmp_path, ending, error, size):
    flow = 100 * torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    valid = flow[1] > -50
    flow[:, ~valid] = torch.nan
    write_flow(tmp_path / f"folder/a{ending}", flow, valid)
    found, known = read_flow(tmp_path / f"folder/a{ending}")
    assert torch.equal(known, valid)
    assert not found[:, ~valid].any()
    assert ((found - flow)[:, valid].abs() <= error).all()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [f"a{ending}"]


def eight_bits():
    file = io.BytesIO()
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        (".flo", b"", "starts with"),
        (".flo", b"PIEH\1\0", "within the header"),
        (".flo", b"HEIP" + flo(FLOW.numpy())[4:], "starts with b'HEIP'"),
        (".flo", struct.pack(">fii", 202021.25, 3, 2) + bytes(48), "starts with"),
        (".flo", flo(FLOW.numpy())[:-1], "make 60 bytes, but it has 59"),
        (".flo", flo(FLOW.numpy()) + b"\0", "make 60 bytes, but it has 61"),
        (".flo", flo(FLOW.numpy(), 2**31 - 1, 2**31 - 1), "2147483647 x 2147483647"),
        (".flo", flo(FLOW.numpy(), -3, -2), "-2 x -3"),
        (".flo", struct.pack("<fii", 202021.25, 0, 5), "0 pixels"),
        (".pfm", pfm(FLOW.numpy())[:-4], "make 84 bytes, but it has 80"),
        (".pfm", b"Pf\n3 2\n-1\n" + bytes(24), "three channels"),
        (".pfm", b"PF\n3 2\n-0.0\n" + bytes(72), "scale is 0"),
        (".pfm", b"PF\n3 2\n-1.0.0\n" + bytes(72), "could not convert"),
        (".pfm", b"PF\n999999999 999999999\n-1\n" + bytes(72), "999999999 x 999999999"),
        (".png", eight_bits(), "8 bits"),
        (".png", png(kitti(FLOW), colour=6), "colour type 6"),
        (".png", png(kitti(FLOW), size=(60_000, 60_000)), "can't hold 60000 x 60000"),
        (".png", png(kitti(FLOW))[:-30], "damaged or cut off"),
        (".png", png(kitti(FLOW))[:20], "start as a PNG"),
        (".png", flo(FLOW.numpy()), "start as a PNG"),
    ],
)
def test_damaged_files_are_refused(tmp_path, ending, content, message):
    path = tmp_path / f"flow{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_flow(path)


def test_missing_files_and_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        read_flow(tmp_path / "none.flo")
    (tmp_path / "flow.npy").touch()
    with pytest.raises(InputError, match=r"ends in \.flo or \.png or \.pfm"):
        read_flow(tmp_path / "flow.npy")
    with pytest.raises(InputError, match=r"ends in \.flo or \.png or \.pfm"):
        write_flow(tmp_path / "flow.npy", FLOW)


@pytest.mark.parametrize(
    ("ending", "value"),
    [(".png", 512.0), (".png", 511.99), (".png", -512.01), (".flo", 1e9), (".pfm", -2e9)]
    + [(ending, value) for ending in ENDINGS for value in (float("nan"), float("inf"))],
)
def test_motions_outside_the_range_of_the_format_are_refused_and_keep_the_file(
    tmp_path, ending, value
):
    path, flow = tmp_path / f"a{ending}", FLOW.clone()
    flow[1, 1, 2] = value
    path.write_bytes(b"earlier")
    with pytest.raises(InputError, match="mark other pixels as not valid"):
        write_flow(path, flow)
    assert path.read_bytes() == b"earlier"
    write_flow(path, flow, flow[1].abs() < 10)
    assert not read_flow(path)[1][1, 2]


@pytest.mark.parametrize(
    ("flow", "valid"),
    [
        (FLOW[None], None),
        (FLOW[:1], None),
        (FLOW.long(), None),
        (FLOW[:, :0], None),
        (FLOW, VALID[:1]),
        (FLOW, VALID.float()),
    ],
)
def test_other_shapes_and_types_are_refused(tmp_path, flow, valid):
    with pytest.raises(InputError, match=r"got a (flow|mask) of .*; give"):
        write_flow(tmp_path / "a.flo", flow, valid)
