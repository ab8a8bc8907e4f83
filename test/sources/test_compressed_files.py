"""What a compressed picture says of itself: depth or colour, whole or truncated."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from stream_vlm.sources.compressed_files import is_depth, missing_end, video_codec
from stream_vlm.sources.image_decoding import (
    CameraEncodingError,
    decode_picture,
    decode_with_rosbags,
)


def picture() -> Image.Image:
    pixels = np.random.default_rng(5).integers(0, 255, (48, 64, 3), np.uint8)
    pixels[:, :32] = (200, 40, 20)
    return Image.fromarray(pixels)


def thumbnail() -> bytes:
    small = io.BytesIO()
    picture().resize((16, 12)).save(small, "JPEG")
    return small.getvalue()


def file(kind: str, **options: object) -> bytes:
    made = io.BytesIO()
    picture().save(made, kind, **options)
    return made.getvalue()


def with_thumbnail() -> bytes:
    """A JPEG with another JPEG, whole with its end mark, in a segment of its own."""
    inner = b"THUMB" + thumbnail()
    whole = file("JPEG")
    segment = b"\xff\xef" + (len(inner) + 2).to_bytes(2, "big") + inner
    return whole[:2] + segment + whole[2:]


FILES = {
    "JPEG": file("JPEG"),
    "progressive": file("JPEG", progressive=True),
    "restart": file("JPEG", restart_marker_blocks=2),
    "thumbnail": with_thumbnail(),
    "PNG": file("PNG"),
    "WebP": file("WEBP"),
    "lossless": file("WEBP", lossless=True),
}
TAILS = {
    "nothing": b"",
    "zero": b"\0",
    "zeros": bytes(9_000),
    "megabyte": bytes(1_000_000),
    "noise": np.random.default_rng(3).integers(0, 255, 5_000, np.uint8).tobytes(),
    "ones": b"\xff" * 5_000,
    "older picture": file("JPEG")[300:],
}


def message(data: bytes, format: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(header=None, format=format, data=np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", FILES)
def test_bytes_behind_the_end_of_a_picture_do_not_matter(name: str, tail: str) -> None:
    read = decode_picture(message(FILES[name] + TAILS[tail]), "front", decode_with_rosbags)
    expected = decode_picture(message(FILES[name]), "front", decode_with_rosbags)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("tail", ["nothing", "zero", "zeros", "megabyte"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("name", FILES)
def test_a_picture_without_its_end_is_refused(name: str, share: float, tail: str) -> None:
    if name in ("WebP", "lossless") and tail != "nothing":
        pytest.skip("a WebP says its length only, and other bytes make up for it")
    cut = FILES[name][: int(len(FILES[name]) * share)]
    with pytest.raises(CameraEncodingError, match=r"front: the .* is truncated"):
        decode_picture(message(cut + TAILS[tail]), "front", decode_with_rosbags)


def test_the_end_mark_of_a_thumbnail_is_not_that_of_the_picture() -> None:
    assert missing_end(with_thumbnail()[:-2]) == "JPEG"


@pytest.mark.parametrize(
    "format",
    [
        "16UC1; compressedDepth png",
        "16UC1; compressedDepth",
        "32FC1; compressedDepth rvl",
        "16UC1; png compressed ",
        "16UC1 ; jpeg compressed bgr8",
        "32FC1; tiff compressed",
        "16uc1",
        "compressedDepth png",
    ],
)
def test_the_encoding_before_the_semicolon_makes_it_depth(format: str) -> None:
    assert is_depth(format)
    with pytest.raises(CameraEncodingError, match=r"is a depth picture; set camera\.front\.topic"):
        decode_picture(message(FILES["PNG"], format), "front", decode_with_rosbags)


@pytest.mark.parametrize(
    "format",
    [
        "rgb8; jpeg compressed bgr8",
        "rgb8; compressedDepth png",
        "bgr8; compressedDepth",
        "mono8; jpeg compressed",
        "mono16; png compressed",
        "jpeg",
        "png",
        "jpg",
        "",
    ],
)
def test_an_encoding_with_colours_is_no_depth_whatever_follows(format: str) -> None:
    assert not is_depth(format)
    read = decode_picture(message(FILES["PNG"], format), "front", decode_with_rosbags)
    assert read[24, 8].tolist() == [200, 40, 20]


def test_a_compressed_sensor_mosaic_is_shown_in_its_colours() -> None:
    """image_transport compresses Bayer pictures as they are, in one channel."""
    colours = np.full((48, 64, 3), (200, 40, 20), np.uint8)
    mosaic = colours[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = colours[::2, ::2, 0], colours[1::2, 1::2, 2]
    made = io.BytesIO()
    Image.fromarray(mosaic).save(made, "PNG")
    read = decode_picture(
        message(made.getvalue(), "bayer_rggb8; png compressed "), "front", decode_with_rosbags
    )
    assert read[24, 32].tolist() == [200, 40, 20]


@pytest.mark.parametrize(
    ("format", "codec"),
    [
        ("h264", "h264"),
        ("H264", "h264"),
        ("H.264", "h264"),
        ("avc", "h264"),
        ("hevc", "hevc"),
        ("h265", "hevc"),
        ("h.265", "hevc"),
        ("av1", "av1"),
        ("bgr8; h264", "h264"),
        ("h264;yuv420p;bgr24;bgr8", "h264"),
        ("jpeg", None),
        ("rgb8; jpeg compressed bgr8", None),
        ("", None),
    ],
)
def test_a_format_of_video_packets_names_its_codec(format: str, codec: str | None) -> None:
    assert video_codec(format) == codec


def test_a_packet_of_a_video_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        CameraEncodingError, match=r"format 'h264' is a packet of h264 video.*pip install .*\[video"
    ):
        decode_picture(message(b"\0\0\0\1\x65abc", "h264"), "front", decode_with_rosbags)
