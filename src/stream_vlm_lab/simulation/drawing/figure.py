"""Draws people from a three-dimensional figure with joints, seen from any side and from above."""

from __future__ import annotations

import numpy as np

from stream_vlm_lab.simulation.drawing.person_style import PersonStyle
from stream_vlm_lab.simulation.drawing.skeleton import Pose, Skeleton
from stream_vlm_lab.simulation.raster.sprite import Brush, Point, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade


class Figure:
    """Draws one person."""

    def __init__(self, upper: Rgb, style_seed: int) -> None:
        self.style = PersonStyle.from_seed(upper, style_seed)

    def hands_at(self, pose: Pose, pitch: float) -> Point:
        """Point between the reaching hands, in body heights from the feet: right, down."""
        joints = Skeleton.posed(pose, self.style.build).joints
        hand = (
            (joints["left hand"] + joints["right hand"]) / 2
            if pose.both_hands
            else joints["right hand"]
        )
        return float(hand[0]), float(-(hand[2] * np.cos(pitch) + hand[1] * np.sin(pitch)))

    def draw(self, pose: Pose, height: float, pitch: float, aside: Point = (0.0, 0.0)) -> Sprite:
        """Draw the figure with its feet at the origin.

        Args:
            pose: the pose.
            height: height in pixels, before the pitch shortens it.
            pitch: pitch of the camera in radians, downwards.
            aside: offset of the origin from the pixel grid, as a fraction of a pixel.
        """
        skeleton = Skeleton.posed(pose, self.style.build)
        seen = {
            name: (
                float(joint[0] * height + aside[0]),
                float(-(joint[2] * np.cos(pitch) + joint[1] * np.sin(pitch)) * height + aside[1]),
            )
            for name, joint in skeleton.joints.items()
        }
        xs, ys = [point[0] for point in seen.values()], [point[1] for point in seen.values()]
        around = 0.1 * height
        brush = Brush(
            min(xs) - around,
            min(ys) - around,
            max(xs) + around,
            max(ys) + around * 0.7,
            3 if height < 90 else 2,
        )
        # Farther parts first; for a camera above, higher parts are nearer.
        near = {
            name: float(-joint[1] * np.cos(pitch) + joint[2] * np.sin(pitch))
            for name, joint in skeleton.joints.items()
        }
        arms = sorted(
            ("left", "right"),
            key=lambda side: near[f"{side} shoulder"] + 0.5 * near[f"{side} hand"],
        )
        legs = sorted(
            ("left", "right"), key=lambda side: near[f"{side} hip"] + near[f"{side} foot"]
        )
        looks_away = skeleton.forward[1] > 0.35
        for rank, side in enumerate(legs):
            self._leg(brush, seen, side, height, 0.86 if rank == 0 else 1.0)
        first_arm = self._arm_behind(near, arms[0], looks_away, pose)
        if first_arm:
            self._arm(brush, seen, arms[0], height, 0.85)
        self._torso(brush, seen, skeleton, height)
        self._head(brush, seen, skeleton, height, pitch)
        self._arm(brush, seen, arms[1], height, 1.0)
        if not first_arm:
            self._arm(brush, seen, arms[0], height, 0.95)
        return brush.sprite()

    @staticmethod
    def _arm_behind(near: dict[str, float], side: str, looks_away: bool, pose: Pose) -> bool:
        across = abs(np.sin(pose.heading))
        return bool(
            across > 0.45
            or (looks_away and pose.reach is not None)
            or near[f"{side} hand"] < near["chest"] - 0.1
        )

    def _leg(
        self, brush: Brush, seen: dict[str, Point], side: str, height: float, gain: float
    ) -> None:
        style = self.style
        build = style.build
        hip, knee, foot = seen[f"{side} hip"], seen[f"{side} knee"], seen[f"{side} foot"]
        shin = style.skin if style.skirt else style.lower
        brush.limb(knee, foot, 0.042 * height * build, 0.03 * height * build, shade(shin, gain))
        brush.limb(
            hip, knee, 0.06 * height * build, 0.045 * height * build, shade(style.lower, gain)
        )
        brush.oval(
            (foot[0], foot[1] + 0.012 * height),
            0.042 * height,
            0.024 * height,
            shade(style.shoes, gain),
        )

    def _arm(
        self, brush: Brush, seen: dict[str, Point], side: str, height: float, gain: float
    ) -> None:
        style = self.style
        shoulder, elbow, hand = (
            seen[f"{side} shoulder"],
            seen[f"{side} elbow"],
            seen[f"{side} hand"],
        )
        sleeve, skin = shade(style.upper, gain * 0.95), shade(style.skin, gain)
        thick = 0.04 * height * style.build
        brush.limb(elbow, hand, thick * 0.85, thick * 0.66, sleeve if style.long_sleeves else skin)
        brush.limb(shoulder, elbow, thick * 1.08, thick * 0.9, sleeve)
        brush.disc(hand, 0.03 * height, skin)

    def _torso(
        self, brush: Brush, seen: dict[str, Point], skeleton: Skeleton, height: float
    ) -> None:
        style = self.style
        hips = [seen["left hip"], seen["right hip"]]
        shoulders = [seen["left shoulder"], seen["right shoulder"]]
        wide = 0.062 * height * style.build
        if style.skirt:
            knees = [seen["left knee"], seen["right knee"]]
            brush.hull(hips + knees, [wide, wide, wide * 1.15, wide * 1.15], style.lower)
        drop = 0.02 * height
        low = [(x, y + drop) for x, y in hips]
        brush.hull(
            low + shoulders, [wide, wide, wide * 0.82, wide * 0.82], shade(style.upper, 0.84)
        )
        offset = 0.016 * height
        shaded = [(x - offset, y - offset * 0.3) for x, y in low + shoulders]
        brush.hull(shaded, [wide * 0.78, wide * 0.78, wide * 0.66, wide * 0.66], style.upper)
        self._trim(brush, seen, skeleton, height, wide)
        if style.jacket is not None and skeleton.forward[1] < -0.5:
            chest, hip = seen["chest"], seen["hips"]
            brush.polygon(
                [
                    (chest[0] - 0.03 * height, chest[1] - 0.02 * height),
                    (chest[0] + 0.03 * height, chest[1] - 0.02 * height),
                    hip,
                ],
                style.jacket,
            )

    def _trim(
        self, brush: Brush, seen: dict[str, Point], skeleton: Skeleton, height: float, wide: float
    ) -> None:
        """Draw details of the clothes: stripes, an emblem, a bag on the back."""
        style = self.style
        spine = [seen["left shoulder"], seen["right shoulder"], seen["left hip"], seen["right hip"]]
        if style.stripes is not None:
            for share in (0.25, 0.5, 0.75):
                ends = [
                    (
                        spine[i][0] * (1 - share) + spine[i + 2][0] * share,
                        spine[i][1] * (1 - share) + spine[i + 2][1] * share,
                    )
                    for i in (0, 1)
                ]
                brush.limb(
                    ends[0], ends[1], 0.018 * height, 0.018 * height, style.stripes, shaded=False
                )
        chest, hips = seen["chest"], seen["hips"]
        if style.emblem is not None and skeleton.forward[1] < -0.7:
            brush.oval(
                (chest[0] * 0.75 + hips[0] * 0.25, chest[1] * 0.75 + hips[1] * 0.25),
                0.038 * height,
                0.028 * height,
                style.emblem,
            )
        if style.backpack is not None and skeleton.forward[1] > 0.5:
            low = (chest[0] * 0.4 + hips[0] * 0.6, chest[1] * 0.4 + hips[1] * 0.6)
            brush.hull([chest, low], [wide * 0.85, wide * 0.95], style.backpack)

    def _head(
        self, brush: Brush, seen: dict[str, Point], skeleton: Skeleton, height: float, pitch: float
    ) -> None:
        style = self.style
        centre, chest = seen["head"], seen["chest"]
        radius = 0.066 * height
        brush.limb(chest, centre, 0.034 * height, 0.034 * height, shade(style.skin, 0.85))
        # The face is on the front of the head, the hair on the back; both move with
        # heading and pitch.
        face_down = -float(skeleton.forward[1] * np.sin(pitch))
        towards = (float(skeleton.forward[0]), face_down)
        tilt = 0.42 * np.sin(pitch)
        facing = float(-skeleton.forward[1] * np.cos(pitch))
        hair = (
            centre[0] - towards[0] * 0.3 * radius,
            centre[1] - (0.22 + 0.3 * towards[1] + tilt * 0.3) * radius,
        )
        face = (
            centre[0] + towards[0] * 0.36 * radius,
            centre[1] + (0.2 + 0.42 * towards[1] + tilt * 0.3) * radius,
        )
        if style.long_hair:
            tail = (chest[0] - towards[0] * 0.7 * radius, chest[1] - 0.2 * radius)
            if facing > -0.25:
                brush.limb(
                    hair, tail, radius * 0.95, radius * 0.7, shade(style.hair, 0.85), shaded=False
                )
        brush.oval(hair, radius * 0.98, radius * 1.02, style.hair)
        if facing > -0.3:
            wide = 0.62 + 0.24 * max(0.0, facing)
            brush.oval(face, radius * wide, radius * (0.94 - 0.2 * np.sin(pitch)), style.skin)
            self._features(brush, face, facing, towards, radius)
        else:
            brush.oval(
                (centre[0], centre[1] + 0.28 * radius),
                radius * 0.8,
                radius * 0.62,
                shade(style.skin, 0.9),
            )
            brush.oval((hair[0], hair[1] + 0.12 * radius), radius * 0.98, radius * 1.02, style.hair)
            if style.long_hair:
                brush.limb(
                    hair,
                    (chest[0], chest[1] + 0.3 * radius),
                    radius * 0.95,
                    radius * 0.75,
                    style.hair,
                    shaded=False,
                )
        brush.oval(
            (hair[0] - 0.25 * radius, hair[1] - 0.35 * radius),
            radius * 0.4,
            radius * 0.28,
            mix(style.hair, (255, 255, 255), 0.14),
        )
        if style.hat is not None:
            brush.oval((hair[0], hair[1] - 0.35 * radius), radius * 1.12, radius * 0.72, style.hat)

    def _features(
        self, brush: Brush, face: Point, facing: float, towards: Point, radius: float
    ) -> None:
        dark = shade(self.style.skin, 0.45)
        turn = towards[0] * 0.3 * radius
        if facing > 0.2:
            for sign in (-1, 1):
                brush.disc(
                    (face[0] + turn + sign * 0.3 * radius, face[1] - 0.12 * radius),
                    0.1 * radius,
                    dark,
                )
            brush.oval(
                (face[0] + turn, face[1] + 0.45 * radius),
                0.24 * radius,
                0.07 * radius,
                mix(dark, (170, 60, 60), 0.5),
            )
        elif abs(towards[0]) > 0.5:
            ahead = 1.0 if towards[0] > 0 else -1.0
            brush.disc(
                (face[0] + ahead * 0.62 * radius, face[1] + 0.05 * radius),
                0.16 * radius,
                shade(self.style.skin, 0.95),
            )
            brush.disc(
                (face[0] + ahead * 0.3 * radius, face[1] - 0.14 * radius), 0.1 * radius, dark
            )
