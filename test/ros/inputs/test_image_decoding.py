"""Decoding a camera's message to pixels, with every installed decoder."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from stream_vlm.sources.image_decoding import BYTES_PER_PIXEL
from stream_vlm_ros.inputs.image_decoding import CameraEncodingError, decode_image, decoders

HEIGHT, WIDTH = 24, 32
YUV_ENCODINGS = {"yuv422", "uyvy", "yuv422_yuy2", "yuyv"}


def picture() -> NDArray[np.uint8]:
    """Left half red, right half blue, so swapped channels and swapped halves are both visible."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2] = (200, 40, 20)
    pixels[:, WIDTH // 2 :] = (20, 60, 220)
    return pixels


def grey() -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(picture(), cv2.COLOR_RGB2GRAY), np.uint8)


def bayer(pattern: str) -> NDArray[np.uint8]:
    """The picture as a sensor with the Bayer filter `pattern` (rggb ...) records it."""
    seen = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = picture()[row::2, column::2, "rgb".index(colour)]
    return seen


def yuv(order: str) -> NDArray[np.uint8]:
    """YUV 4:2:2, two bytes a pixel, in the byte order uyvy or yuyv.

    The luma has its full range, as OpenCV's limited-range conversion reads it.
    """
    return np.asarray(
        cv2.cvtColor(
            picture(), cv2.COLOR_RGB2YUV_UYVY if order == "uyvy" else cv2.COLOR_RGB2YUV_YUY2
        ),
        np.uint8,
    )


def encoded(encoding: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The picture in `encoding`."""
    rgb = picture()
    if encoding.startswith("bayer_"):
        seen = bayer(encoding[6:10])
        return seen if encoding.endswith("8") else seen.astype(np.uint16) * 257
    makers: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "rgb": lambda: rgb,
        "bgr": lambda: rgb[..., ::-1],
        "rgba": lambda: np.dstack([rgb, np.full((HEIGHT, WIDTH), 255, np.uint8)]),
        "bgra": lambda: np.dstack([rgb[..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)]),
        "mono": grey,
        "yuv422": lambda: yuv("uyvy"),
        "uyvy": lambda: yuv("uyvy"),
        "yuv422_yuy2": lambda: yuv("yuyv"),
        "yuyv": lambda: yuv("yuyv"),
    }
    if encoding in makers:
        return makers[encoding]()
    plain = makers[encoding.rstrip("0123456789")]()
    return plain if encoding.endswith("8") else plain.astype(np.uint16) * 257


def message(encoding: str, *, padding: int = 0, big_endian: bool = False) -> Image:
    pixels = encoded(encoding)
    data = pixels.astype(pixels.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.frombuffer(data.tobytes(), np.uint8).reshape(HEIGHT, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    made = Image(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=int(big_endian),
    )
    made.data.frombytes(rows.tobytes())
    return made


def compressed(pixels: NDArray[np.uint8], suffix: str = ".jpg") -> CompressedImage:
    """`pixels`, in OpenCV's channel order, as a compressed file."""
    done, data = cv2.imencode(suffix, pixels)
    assert done
    made = CompressedImage(format=f"{suffix[1:]}; rgb8")
    made.data.frombytes(data.tobytes())
    return made


@pytest.fixture(params=sorted(decoders()))
def decoder(request: pytest.FixtureRequest) -> Callable[..., NDArray[np.uint8]]:
    return decoders()[request.param]


def assert_shows(pixels: NDArray[np.uint8], expected: NDArray[np.uint8], tolerance: int) -> None:
    """Check for equality within `tolerance`, except near borders, where colours are mixed."""
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    inside = (slice(4, -4), [*range(4, WIDTH // 2 - 4), *range(WIDTH // 2 + 4, WIDTH - 4)])
    np.testing.assert_allclose(
        pixels[inside].astype(int), expected[inside].astype(int), atol=tolerance
    )


@pytest.mark.parametrize("encoding", sorted(BYTES_PER_PIXEL))
def test_every_encoding_is_decoded_to_the_same_colours(
    encoding: str, decoder: Callable[..., NDArray[np.uint8]]
) -> None:
    expected = np.repeat(grey()[..., None], 3, axis=2) if encoding.startswith("mono") else picture()
    assert_shows(
        decode_image(message(encoding), "front", decoder),
        expected,
        tolerance=4 if encoding in YUV_ENCODINGS else 1,
    )


@pytest.mark.parametrize("encoding", ["rgb8", "mono8", "mono16", "bayer_rggb8", "bgra8"])
def test_padding_of_rows_is_removed(
    encoding: str, decoder: Callable[..., NDArray[np.uint8]]
) -> None:
    padded = decode_image(message(encoding, padding=12), "front", decoder)
    np.testing.assert_array_equal(padded, decode_image(message(encoding), "front", decoder))


def test_a_picture_may_lack_the_padding_of_its_last_row(
    decoder: Callable[..., NDArray[np.uint8]],
) -> None:
    cut = message("rgb8", padding=12)
    del cut.data[-12:]
    np.testing.assert_array_equal(decode_image(cut, "front", decoder), picture())


def test_big_endian_pictures_are_decoded(
    decoder: Callable[..., NDArray[np.uint8]],
) -> None:
    assert_shows(
        decode_image(message("rgb16", big_endian=True), "front", decoder), picture(), tolerance=1
    )


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_compressed_picture_is_decoded_to_the_same_colours(
    suffix: str, decoder: Callable[..., NDArray[np.uint8]]
) -> None:
    assert_shows(
        decode_image(compressed(picture()[..., ::-1], suffix), "front", decoder),
        picture(),
        tolerance=6,
    )


def test_a_grey_jpeg_becomes_three_equal_channels(
    decoder: Callable[..., NDArray[np.uint8]],
) -> None:
    pixels = decode_image(compressed(grey()), "front", decoder)
    assert_shows(pixels, np.repeat(grey()[..., None], 3, axis=2), tolerance=6)


def test_without_a_decoder_the_first_installed_one_is_used() -> None:
    np.testing.assert_array_equal(decode_image(message("rgb8"), "front"), picture())


def with_fields(**fields: object) -> Image:
    made = message("rgb8")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def shortened(by: int) -> Image:
    made = message("rgb8")
    del made.data[-by:]
    return made


def damaged(data: bytes, format: str = "jpeg") -> CompressedImage:
    made = CompressedImage(format=format)
    made.data.frombytes(data)
    return made


def jpeg() -> bytes:
    return bytes(compressed(picture()).data)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (lambda: with_fields(encoding="8UC9"), "encoding '8UC9' does not name its colours; remap"),
        (lambda: with_fields(encoding=""), "encoding '' does not name its colours"),
        (lambda: with_fields(encoding="16UC1"), "encoding '16UC1' is a depth picture"),
        (lambda: with_fields(encoding="32FC1"), "encoding '32FC1' is a depth picture"),
        (lambda: with_fields(width=0, step=0), "0x24 pixels"),
        (lambda: with_fields(height=0), "32x0 pixels"),
        (lambda: with_fields(width=4_000_000, step=12_000_000), "4000000x24 pixels"),
        (
            lambda: with_fields(step=WIDTH),
            "step 32 is shorter than a row of 32 pixels in rgb8 (96 bytes)",
        ),
        (lambda: shortened(1), "2303 bytes of data, but step x height is 96 x 24"),
        (lambda: shortened(2304), "0 bytes of data"),
        (lambda: damaged(b""), "is empty"),
        (lambda: damaged(b"no picture at all"), "could not be decoded"),
        (lambda: damaged(jpeg()[: len(jpeg()) // 2]), "is truncated"),
        (lambda: damaged(b"\xff\xd8" + bytes(100) + b"\xff\xd9"), "could not be decoded"),
        (lambda: damaged(jpeg(), "16UC1; compressedDepth png"), "is a depth picture"),
    ],
)
def test_a_bad_picture_is_refused_with_the_camera_and_the_reason(
    bad: Callable[[], Image | CompressedImage], says: str, decoder: Callable[..., NDArray[np.uint8]]
) -> None:
    with pytest.raises(CameraEncodingError) as refusal:
        decode_image(bad(), "front", decoder)
    assert str(refusal.value).startswith("front: ")
    assert says in str(refusal.value)
