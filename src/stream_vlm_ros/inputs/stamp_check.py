"""Which stamps of messages are refused, and what to do about them."""

from __future__ import annotations

from stream_vlm.types import NANOSECONDS


def stamp_fault(
    name: str, what: str, topic: str, stamp_ns: int, now_ns: int, tolerance_s: float
) -> str:
    """Why a message stamped `stamp_ns` (ns) is refused at `now_ns` (ns) on the node's clock; empty
    when it is not.

    Args:
        name: the camera or the part of the node that takes the messages.
        what: what one message holds: "picture" or "pose".
        tolerance_s: how far ahead of the node's clock a stamp may be, in seconds.
    """
    if stamp_ns <= 0:
        return (
            f"{name}: {what}s on {topic} carry the stamp {stamp_ns} ns and are refused; have the"
            " driver set header.stamp"
        )
    ahead_s = (stamp_ns - now_ns) / NANOSECONDS
    if ahead_s <= tolerance_s:
        return ""
    if now_ns == 0:
        return (
            f"{name}: use_sim_time is true and no /clock was heard yet; play the bag with --clock,"
            " or set use_sim_time to false"
        )
    return (
        f"{name}: a {what} on {topic} is stamped {ahead_s:.1f} s ahead of the node's clock and is"
        " refused; synchronise the clocks, or set use_sim_time when a bag or a simulation is the"
        " robot"
    )
