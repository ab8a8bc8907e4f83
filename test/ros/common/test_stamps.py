"""Our types to messages and back."""

from __future__ import annotations

import pytest

from stream_vlm_ros.common.stamps import nanoseconds, stamp_message


@pytest.mark.parametrize("stamp_ns", [0, 1, 1_700_000_000_123_456_789, -1])
def test_a_stamp_survives_the_message(stamp_ns: int) -> None:
    assert nanoseconds(stamp_message(stamp_ns)) == stamp_ns
