"""Stamps of messages: as int64 nanoseconds, and which are refused."""

from __future__ import annotations

from builtin_interfaces.msg import Time

from stream_vlm.types import NANOSECONDS


def nanoseconds(stamp: Time) -> int:
    """`stamp` as int64 nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_message(stamp_ns: int) -> Time:
    """`stamp_ns` (ns) as a stamp."""
    seconds, rest = divmod(stamp_ns, NANOSECONDS)
    return Time(sec=seconds, nanosec=rest)


def stamp_fault(
    name: str, what: str, topic: str, stamp_ns: int, now_ns: int, tolerance_s: float
) -> str:
    """Say why a stamp is refused, and what to do; empty if it is good.

    Args:
        name: the camera or the part of the node that receives the messages.
        what: what a message contains: "picture" or "pose".
        topic: the topic of the messages.
        stamp_ns: the stamp, ns.
        now_ns: the time of the node's clock, ns.
        tolerance_s: how far ahead of the node's clock a stamp may be, in seconds.
    """
    if stamp_ns <= 0:
        return (
            f"{name}: {what}s on {topic} have the stamp {stamp_ns} ns and are refused; correct the"
            " driver so that it sets header.stamp"
        )
    ahead_s = (stamp_ns - now_ns) / NANOSECONDS
    if ahead_s <= tolerance_s:
        return ""
    if now_ns == 0:
        return (
            f"{name}: use_sim_time is true, but nothing came on /clock yet; play the bag with"
            " --clock, or set use_sim_time to false"
        )
    return (
        f"{name}: the stamp of a {what} on {topic} is {ahead_s:.1f} s ahead of the node's clock, so"
        " it is refused; synchronise the clocks, or set use_sim_time to true for a bag or a"
        " simulation"
    )
