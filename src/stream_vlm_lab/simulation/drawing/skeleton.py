"""The joints of a person in three dimensions, for every pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HIP, SHOULDER, HEAD = 0.53, 0.815, 0.915
UPPER_ARM = LOWER_ARM = 0.185
THIGH = SHIN = 0.265

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """The pose of a person; lengths in body heights.

    Attributes:
        heading: radians; 0 faces the camera, +pi/2 the right of the picture, pi away.
        stride: phase of the walk in radians.
        walking: 0..1, how much of the walk is visible.
        sway: sideways shift of the upper body.
        crouch: 0..1, how much the knees are bent.
        lean: radians, how far the upper body leans forward.
        reach: forward and up position of the hands; None for hanging or swinging arms.
        both_hands: whether the second hand reaches too.
    """

    heading: float = 0.0
    stride: float = 0.0
    walking: float = 0.0
    sway: float = 0.0
    crouch: float = 0.0
    lean: float = 0.0
    reach: tuple[float, float] | None = None
    both_hands: bool = False


def _joint(
    root: Vector, target: Vector, upper: float, lower: float, bend: Vector
) -> tuple[Vector, Vector]:
    """Middle joint and end of a two-bone limb from `root` towards `target`.

    The joint bends in the direction `bend`.
    """
    along = target - root
    distance = float(np.linalg.norm(along))
    longest = (upper + lower) * 0.999
    if distance > longest:
        along, distance = along * (longest / distance), longest
    distance = max(distance, 1e-6)
    towards = along / distance
    share = (upper**2 - lower**2 + distance**2) / (2 * distance)
    out = float(np.sqrt(max(upper**2 - share**2, 0.0)))
    sideways = bend - towards * float(bend @ towards)
    sideways = sideways / max(float(np.linalg.norm(sideways)), 1e-6)
    return root + towards * share + sideways * out, root + along


@dataclass(frozen=True)
class Skeleton:
    """Positions of the joints: right, away from the camera, up.

    They are in body heights; the feet are at the origin.
    """

    joints: dict[str, Vector]
    forward: Vector

    @classmethod
    def posed(cls, pose: Pose, build: float) -> Skeleton:
        """The joints for `pose`."""
        forward = np.array([np.sin(pose.heading), -np.cos(pose.heading), 0.0])
        side = np.array([np.cos(pose.heading), np.sin(pose.heading), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        bounce = 0.012 * pose.walking * abs(np.cos(pose.stride))
        hips = (
            up * (HIP - 0.27 * pose.crouch + bounce - 0.01 * pose.walking)
            - forward * 0.1 * pose.crouch
            + side * pose.sway * 0.4
        )
        trunk = up * np.cos(pose.lean) + forward * np.sin(pose.lean)
        chest = hips + trunk * (SHOULDER - HIP) + side * pose.sway
        joints = {
            "hips": hips,
            "chest": chest,
            "head": chest + trunk * (HEAD - SHOULDER) + forward * 0.012,
        }
        for name, sign in (("left", -1.0), ("right", 1.0)):
            phase = pose.stride + (np.pi if sign > 0 else 0.0)
            swing = np.sin(phase) * pose.walking
            lift = max(0.0, float(np.cos(phase))) * pose.walking
            hip = hips + side * sign * 0.062 * build
            foot = side * sign * 0.07 + forward * swing * 0.21 + up * (0.03 + 0.055 * lift)
            joints[f"{name} hip"] = hip
            joints[f"{name} knee"], joints[f"{name} foot"] = _joint(
                hip, foot, THIGH, SHIN, forward + up * 0.1
            )
            shoulder = chest + side * sign * 0.108 * build
            hand = (
                shoulder
                - up * 0.335
                + side * sign * 0.045
                - forward * (swing * 0.17 - 0.045)
                + up * 0.02 * abs(swing)
            )
            if pose.reach is not None and (sign > 0 or pose.both_hands):
                hand = forward * pose.reach[0] + up * pose.reach[1] + side * sign * 0.06
            joints[f"{name} shoulder"] = shoulder
            joints[f"{name} elbow"], joints[f"{name} hand"] = _joint(
                shoulder, hand, UPPER_ARM, LOWER_ARM, -forward - up * 0.6 + side * sign * 0.3
            )
        return cls(joints, forward)
