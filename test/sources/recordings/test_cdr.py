"""A message is decoded as a ROS node would, and one that is none is named."""

from __future__ import annotations

import pytest
from mcap_fixtures import STORE, image_bytes

from stream_vlm.sources.recordings.cdr import NoMessage, decode_message, stamp_of
from stream_vlm.types import NANOSECONDS

IMAGE = "sensor_msgs/msg/Image"


@pytest.mark.parametrize("stamp_ns", [0, 1, -NANOSECONDS // 2, 1_700_000_000 * NANOSECONDS + 7])
def test_the_stamp_is_read_without_decoding_the_message(stamp_ns: int) -> None:
    assert stamp_of(image_bytes(stamp_ns)[:16]) == stamp_ns
    message = STORE.deserialize_cdr(image_bytes(stamp_ns), IMAGE)
    big = bytes(STORE.serialize_cdr(message, IMAGE, little_endian=False))
    assert stamp_of(big) == stamp_ns


@pytest.mark.parametrize("data", [b"", b"\0\1\0\0", b"\xff\xff" + image_bytes(1)[2:]])
def test_bytes_that_are_no_message_have_no_stamp(data: bytes) -> None:
    assert stamp_of(data) is None
    with pytest.raises(NoMessage, match=f"{len(data)} bytes"):
        decode_message(data, IMAGE)


@pytest.mark.parametrize("size", [13, 40, 60, 100, 180])
def test_a_message_that_is_cut_short_is_named(size: int) -> None:
    with pytest.raises(NoMessage, match=f"{size} bytes"):
        decode_message(image_bytes(NANOSECONDS)[:size], IMAGE)


def test_a_text_that_is_no_utf8_gets_replacement_characters_as_in_a_node() -> None:
    data = image_bytes(NANOSECONDS, "kXche", encoding="rgbX")
    data = data.replace(b"kXche", b"k\xfcche").replace(b"rgbX", b"rgb\xe9")
    message = decode_message(data, IMAGE)
    assert message.header.frame_id == "k�che"
    assert message.encoding == "rgb�"
    assert message.data.tolist() == [100] * 144


def test_a_text_of_one_byte_is_not_confused_with_the_stamp() -> None:
    stamp_ns = 0xE9 * NANOSECONDS
    message = decode_message(image_bytes(stamp_ns, "X").replace(b"X", b"\xe9"), IMAGE)
    assert (message.header.stamp.sec, message.header.frame_id) == (0xE9, "�")
