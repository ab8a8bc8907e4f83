"""Forms of portable things that no training uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stream_vlm_lab.simulation.raster.sprite import Brush, Sprite
from stream_vlm_lab.simulation.scene.palette import Rgb, mix, shade

WHITE: Rgb = (255, 255, 255)


def draw_unseen(kind: str, rgb: Rgb, height: float, pitch: float, style_seed: int) -> Sprite:
    """Draw a thing of `kind`, other than a ball, in its held-out form.

    Args:
        kind: kind of thing.
        rgb: its colour.
        height: height in pixels.
        pitch: pitch of the camera in radians.
        style_seed: seed of small variations.
    """
    return _PAINTERS[kind](
        rgb, height, max(0.14, float(np.sin(pitch))), np.random.default_rng(style_seed)
    )


def _crate(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A box of slats with gaps, open at the top."""
    half, rim = height * float(rng.uniform(0.58, 0.66)), height * 0.3 * flat
    brush = Brush(-half, -height, half, 2, 3)
    brush.polygon(
        [(-half, 0), (half, 0), (half, -height + rim), (-half, -height + rim)], shade(rgb, 0.32)
    )
    brush.polygon(
        [
            (-half, -height + rim),
            (half, -height + rim),
            (half * 0.86, -height),
            (-half * 0.86, -height),
        ],
        shade(rgb, 0.45),
    )
    slats = int(rng.integers(3, 5))
    tall = (height - rim) / slats
    for slat in range(slats):
        foot = -slat * tall
        brush.polygon(
            [(-half, foot), (half, foot), (half, foot - tall * 0.7), (-half, foot - tall * 0.7)],
            shade(rgb, 1.0 - 0.06 * (slat % 2)),
        )
    for x in (-half * 0.92, half * 0.92):
        brush.limb(
            (x, -half * 0.06),
            (x, -height + rim),
            half * 0.06,
            half * 0.06,
            shade(rgb, 0.75),
            shaded=False,
        )
    return brush.sprite()


def _bowl(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A cup in the form of a wide bowl on a saucer, without a handle."""
    top, foot = height * float(rng.uniform(0.46, 0.52)), height * 0.2
    brush = Brush(-height * 0.62, -height, height * 0.62, height * 0.25, 3)
    brush.oval((0, -height * 0.04), height * 0.58, height * 0.58 * flat * 0.5 + 1, shade(rgb, 0.7))
    rim = -height * 0.86
    turns = np.linspace(0, 1, 12)
    side = [
        (foot + (top - foot) * float(np.sin(turn * np.pi / 2)), rim * float(turn)) for turn in turns
    ]
    brush.polygon([(-x, y) for x, y in side] + side[::-1], rgb)
    brush.polygon(
        [(-x, y) for x, y in side] + [(-x * 0.55, y) for x, y in side[::-1]], shade(rgb, 1.15)
    )
    brush.oval((0, rim), top, top * flat * 0.6, shade(rgb, 1.18))
    brush.oval((0, rim + height * 0.01), top * 0.86, top * flat * 0.5, shade(rgb, 0.5))
    return brush.sprite()


def _flask(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """A bottle with a round body and a long thin neck."""
    belly = height * float(rng.uniform(0.2, 0.23))
    brush = Brush(-belly * 1.1, -height, belly * 1.1, 2, 3)
    brush.limb((0, -belly), (0, -height * 0.93), belly * 0.24, belly * 0.2, shade(rgb, 0.9))
    brush.disc((0, -belly), belly, shade(rgb, 0.8))
    brush.disc((-belly * 0.14, -belly * 1.1), belly * 0.78, rgb)
    brush.disc((-belly * 0.34, -belly * 1.36), belly * 0.22, mix(rgb, WHITE, 0.7))
    brush.limb(
        (0, -height * 0.93),
        (0, -height * 0.97),
        belly * 0.3,
        belly * 0.3,
        shade(rgb, 0.5),
        shaded=False,
    )
    return brush.sprite()


def _open_book(rgb: Rgb, height: float, flat: float, rng: np.random.Generator) -> Sprite:
    """An upright open book, with its covers left and right and pages between them."""
    half, dip = height * float(rng.uniform(0.4, 0.46)), height * float(rng.uniform(0.1, 0.16))
    brush = Brush(-half, -height, half, dip + 2, 3)
    for sign, tone in ((-1, 1.0), (1, 0.8)):
        brush.polygon(
            [(0, 0), (sign * half, -dip), (sign * half, -height), (0, -height + dip)],
            shade(rgb, tone),
        )
        page = mix(rgb, (240, 236, 224), 0.88)
        low, high, wide = -height * 0.14, -height * 0.84, sign * half * 0.72
        inner = [(0, low), (wide, low - dip * 0.72), (wide, high - dip * 0.5), (0, high + dip)]
        brush.polygon(inner, shade(page, 0.8 + 0.2 * tone))
        for line in range(4):
            y = -height * (0.3 + 0.14 * line)
            brush.limb(
                (sign * half * 0.12, y),
                (sign * half * 0.6, y - dip * 0.5),
                height * 0.012,
                height * 0.012,
                (120, 116, 110),
                shaded=False,
            )
    return brush.sprite()


_PAINTERS: dict[str, Callable[[Rgb, float, float, np.random.Generator], Sprite]] = {
    "box": _crate,
    "cup": _bowl,
    "bottle": _flask,
    "book": _open_book,
}
