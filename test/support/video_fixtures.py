"""Video files of every kind that recorders write, made with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SIZE = (64, 48)


def picture(index: int, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A picture that differs from its neighbours, uint8 RGB, (H, W, 3)."""
    width, height = size
    pixels = np.full((height, width, 3), index * 7 % 256, np.uint8)
    pixels[:, : index * 3 % width, 1] = 200
    pixels[index * 5 % height, :, 2] = 255
    return pixels


def write_video(
    path: Path,
    stamps_s: Sequence[float],
    *,
    codec: str = "libx264",
    gop: int = 12,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    offset_s: float = 0.0,
    size: tuple[int, int] = SIZE,
    time_base: Fraction = Fraction(1, 1000),
    audio_s: float = 0.0,
    stated_rate: int = 30,
) -> Path:
    """Write `picture(i)` at `stamps_s[i]` seconds for every i, and `audio_s` seconds of silence.

    The container states `stated_rate` pictures a second, whatever the stamps are.
    """
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=stated_rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        sound = container.add_stream("aac", rate=8000) if audio_s else None
        for index, stamp_s in enumerate(stamps_s):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts = round((stamp_s + offset_s) / time_base)
            frame.time_base = time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound is not None:
            for start in range(0, int(audio_s * 8000), 1024):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 8000, start
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
    return path


def regular(count: int, fps: float = 30.0) -> list[float]:
    """Stamps of a constant rate, seconds."""
    return [index / fps for index in range(count)]


def variable() -> list[float]:
    """A busy second, a minute with a picture every two seconds, and two busy seconds."""
    return [*regular(30), *(1.0 + 2 * index for index in range(30)), *(61 + t for t in regular(60))]
