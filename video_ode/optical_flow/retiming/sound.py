"""Sound track of a video, for a copy of the video that plays at another speed."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from common.errors import InputError

LAYOUTS = ("mono", "stereo", "5.1", "5.1(side)")
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # of AAC


class Sound:
    """Main sound track of a file, added to another file.

    At the original speed its packets are copied as they are if the other file can hold their
    codec; otherwise they are encoded as AAC. At another speed the tempo changes and the pitch
    stays (FFmpeg's filter `atempo`).

    Args:
        path: File with the sound.
        target: File that is written, before its first packet.
        start: Time in the file at which the copy begins, in s.
        speed: Speed of the copy.

    Attributes:
        note: Sentence that says what becomes of the sound.

    Raises:
        InputError: The file can't be read.
    """

    def __init__(self, path: Path, target: Any, start: float, speed: float) -> None:
        self._path, self._start, self._speed = path, start, speed
        self._stream: Any = None
        self._copied = False
        with av.open(str(path), metadata_errors="ignore") as container:
            stream: Any = container.streams.best("audio")
            if stream is None:
                self.note = "the video has no sound"
            elif stream.codec_context is None:
                self.note = "the sound is left out, because its codec is unknown"
            elif speed == 1 and _holds(target, stream.name):
                self._stream, self._copied = target.add_stream_from_template(stream), True
                self.note = "the sound is copied"
            else:
                rate = stream.rate if stream.rate in RATES else RATES[-1]
                self._stream = target.add_stream("aac", rate=rate, layout=_layout(stream))
                tempo = "" if speed == 1 else f" and plays at {speed:g} times the speed"
                self.note = f"the sound is encoded again as AAC{tempo}"

    def packets(self) -> Iterator[tuple[float, Any]]:
        """Packets for the other file, each with its time in s.

        Raises:
            InputError: The sound can't be converted.
        """
        if self._stream is None:
            return
        try:
            with av.open(str(self._path), metadata_errors="ignore") as container:
                stream = container.streams.best("audio")
                made = self._copies if self._copied else self._encoded
                for packet in made(container, stream):
                    packet.stream = self._stream
                    yield float(packet.pts * packet.time_base), packet
        except av.FFmpegError as error:
            raise InputError(
                f"the sound of {self._path} can't be converted ({error.strerror}); copy the file "
                "again, or take a file without sound"
            ) from error

    def _copies(self, container: Any, stream: Any) -> Iterator[Any]:
        shift = round(self._start / stream.time_base)
        for packet in container.demux(stream):
            if packet.pts is None or packet.dts is None:  # such as the empty one at the end
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet

    def _encoded(self, container: Any, stream: Any) -> Iterator[Any]:
        count, offset, encoder = 0, Fraction(0), self._stream
        for begin, frame in _played(container.decode(stream), stream, self._speed):
            if not count:
                offset = Fraction((begin - self._start) / self._speed).limit_denominator(10**6)
            frame.pts, frame.time_base = count, Fraction(1, frame.sample_rate)
            count += frame.samples
            yield from _moved(encoder.encode(frame), offset)
        yield from _moved(encoder.encode(), offset)


def _played(frames: Iterator[Any], stream: Any, speed: float) -> Iterator[tuple[float, Any]]:
    """Decoded sound at another speed; each part comes with the original begin of all, in s."""
    graph, begin = av.filter.Graph(), 0.0
    tempos = [graph.add("atempo", str(factor)) for factor in _factors(speed)]
    steady = graph.add("aresample", "async=1")  # silence where the time stamps have a gap
    nodes = (graph.add_abuffer(template=stream), steady, *tempos, graph.add("abuffersink"))
    graph.link_nodes(*nodes).configure()
    for k, frame in enumerate(itertools.chain(frames, [None])):
        if k == 0 and frame is not None:
            begin = frame.time or 0.0
        graph.push(frame)
        with contextlib.suppress(av.BlockingIOError, av.EOFError):  # nothing more for now
            while True:
                yield begin, graph.pull()


def _holds(target: Any, codec: str) -> bool:
    """True if the packets of a codec can be copied into a file and keep their time stamps."""
    # MP4 and MOV hold raw samples (PCM) without time stamps: a gap in the sound would be lost.
    raw = codec.startswith("pcm") and target.format.name != "matroska"
    return codec in target.supported_codecs and not raw


def _layout(stream: Any) -> str:
    """Channels to encode: the same, or stereo; a file may tell only the number of its channels."""
    if stream.layout.nb_channels == 1:
        return "mono"
    return stream.layout.name if stream.layout.name in LAYOUTS else "stereo"


def _factors(speed: float) -> list[float]:
    """Factors between 1/2 and 2 whose product is `speed`: one `atempo` filter does no more."""
    count = math.ceil(abs(math.log2(speed)) - 1e-9)
    return [speed ** (1 / count)] * count if count else []


def _moved(packets: list[Any], offset: Fraction) -> Iterator[Any]:
    for packet in packets:
        shift = round(offset / packet.time_base)
        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
        yield packet
