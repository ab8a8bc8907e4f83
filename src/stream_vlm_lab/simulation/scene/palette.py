"""Named colours as pixel values, and which colours contrast with a background."""

from __future__ import annotations

import colorsys

import numpy as np

from stream_vlm_lab.simulation.scene.captions import COLOURS

Rgb = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

_TYPICAL: dict[str, Rgb] = {
    "red": (200, 32, 38),
    "green": (38, 148, 62),
    "blue": (38, 78, 195),
    "yellow": (238, 208, 42),
    "orange": (240, 124, 24),
    "purple": (122, 50, 160),
    "white": (240, 240, 236),
    "black": (28, 28, 31),
    "grey": (132, 132, 136),
    "brown": (112, 68, 36),
}
_NEUTRAL = ("white", "black", "grey")
SKINS: tuple[Rgb, ...] = (
    (245, 208, 178),
    (226, 178, 140),
    (198, 145, 105),
    (160, 110, 76),
    (118, 78, 54),
    (84, 56, 42),
)
HAIRS: tuple[Rgb, ...] = (
    (28, 24, 22),
    (62, 42, 30),
    (112, 74, 42),
    (176, 134, 78),
    (150, 146, 142),
    (120, 50, 26),
)


def shade(rgb: Rgb, gain: float) -> Rgb:
    """Make `rgb` darker (gain < 1) or lighter (gain > 1)."""
    red, green, blue = (min(255, max(0, int(channel * gain))) for channel in rgb)
    return red, green, blue


def mix(first: Rgb, second: Rgb, share: float) -> Rgb:
    """A colour between `first` (share 0) and `second` (share 1)."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def pixel_colour(name: str, rng: np.random.Generator) -> Rgb:
    """A random variation of the colour `name` that people would still call by this name."""
    red, green, blue = (channel / 255 for channel in _TYPICAL[name])
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    value = float(np.clip(value * rng.uniform(0.85, 1.08), 0, 1))
    if name in _NEUTRAL:
        saturation = float(rng.uniform(0, 0.06))
    else:
        hue = (hue + float(rng.uniform(-0.014, 0.014))) % 1
        saturation = float(np.clip(saturation * rng.uniform(0.82, 1.1), 0, 1))
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def muted_colour(rng: np.random.Generator, darkest: float = 0.3, lightest: float = 0.9) -> Rgb:
    """A random colour for walls, floors or furniture, mostly of low saturation."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(0, 1), rng.beta(1.2, 5.0) * 0.7, rng.uniform(darkest, lightest)
    )
    return int(red * 255), int(green * 255), int(blue * 255)


def wood_colour(rng: np.random.Generator) -> Rgb:
    """A random colour between pale birch and dark walnut."""
    red, green, blue = colorsys.hsv_to_rgb(
        rng.uniform(0.06, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.85)
    )
    return int(red * 255), int(green * 255), int(blue * 255)


def contrast(first: Rgb, second: Rgb) -> float:
    """Perceived distance of two colours, about 0..765 (the "redmean" approximation)."""
    mean_red = (first[0] + second[0]) / 2
    red, green, blue = (a - b for a, b in zip(first, second, strict=True))
    return float(
        np.sqrt(
            (2 + mean_red / 256) * red**2 + 4 * green**2 + (2 + (255 - mean_red) / 256) * blue**2
        )
    )


def standing_out(backgrounds: list[Rgb], at_least: float = 150.0) -> tuple[str, ...]:
    """Names of the colours that contrast with all `backgrounds`; else all chromatic colours."""
    found = tuple(
        name
        for name in COLOURS
        if all(contrast(_TYPICAL[name], background) >= at_least for background in backgrounds)
    )
    return found or tuple(name for name in COLOURS if name not in (*_NEUTRAL, "brown"))


def decoration_tone(rgb: Rgb, rng: np.random.Generator) -> Rgb:
    """A tone to decorate something of colour `rgb` with; the thing keeps the name of its colour."""
    return (
        mix(rgb, (255, 255, 255), float(rng.uniform(0.35, 0.75)))
        if sum(rgb) < 520 and rng.random() < 0.6
        else shade(rgb, float(rng.uniform(0.4, 0.75)))
    )
