"""Reader of TFRecord files of `tf.train.Example` messages that needs no TensorFlow.

Descriptions of the formats: https://www.tensorflow.org/tutorials/load_data/tfrecord (records),
https://protobuf.dev/programming-guides/encoding (wire format of the messages).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from common.errors import InputError


def record_places(path: Path) -> list[tuple[int, int]]:
    """Offset and number of bytes of the content of every record, in the order of the file.

    A record consists of the length of its content (8 bytes), a checksum of the length (4 bytes),
    the content, and a checksum of the content (4 bytes). Only length and first checksum are read.

    Raises:
        InputError: A length does not match its checksum, or the last record is cut short.
    """
    places: list[tuple[int, int]] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = 0
        while offset < size:
            file.seek(offset)
            head = file.read(12)
            if len(head) < 12:
                raise _cut_short(path, len(places))
            length, checksum = struct.unpack("<QI", head)
            if masked_crc32c(head[:8]) != checksum:
                raise InputError(
                    f"{path} isn't a TFRecord file, or is damaged: the head of record "
                    f"{len(places)} doesn't match its checksum; download it again"
                )
            places.append((offset + 12, length))
            offset += 12 + length + 4
            if offset > size:
                raise _cut_short(path, len(places) - 1)
    return places


def example_bytes(example: bytes) -> dict[str, bytes]:
    """Features of a serialised Example that hold one byte string each, by their names.

    Raises:
        ValueError: The bytes are no Example.
    """
    found = {}
    for features in _inside(example, 1):  # Example.features
        for entry in _inside(features, 1):  # Features.feature, a map
            name, feature = next(_inside(entry, 1), b""), next(_inside(entry, 2), b"")
            values = [value for found in _inside(feature, 1) for value in _inside(found, 1)]
            if len(values) == 1:
                found[bytes(name).decode()] = bytes(values[0])
    return found


def masked_crc32c(data: bytes) -> int:
    """Masked CRC-32C (Castagnoli) checksum: rotated and shifted as in TFRecord files."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc_entry(crc: int) -> int:
    for _ in range(8):
        crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc


CRC_TABLE = [_crc_entry(byte) for byte in range(256)]


def _inside(message: bytes | memoryview, wanted: int) -> Iterator[memoryview]:
    """Contents of the fields with the number `wanted` that hold bytes (strings, messages)."""
    view, at = memoryview(message), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 0:
            at = _varint(view, at)[1]
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of wire type {kind}")
        length, at = _varint(view, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        if at + length > len(view):
            raise ValueError("a field longer than its message")
        if kind == 2 and tag >> 3 == wanted:
            yield view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """Variable-length integer at the position `at`, and the position after it."""
    value = 0
    for place in range(10):
        if at + place >= len(view):
            break
        byte = view[at + place]
        value |= (byte & 127) << 7 * place
        if byte < 128:
            return value, at + place + 1
    raise ValueError("a number without an end")


def _cut_short(path: Path, record: int) -> InputError:
    return InputError(f"{path} ends within record {record}; download it again")
