"""The clothes and looks of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_vlm_lab.simulation.scene.palette import HAIRS, SKINS, Rgb, mix, muted_colour, shade


@dataclass(frozen=True)
class PersonStyle:
    """The clothes, skin and hair of a person, drawn from one seed; the upper colour is given."""

    upper: Rgb
    lower: Rgb
    shoes: Rgb
    skin: Rgb
    hair: Rgb
    build: float
    long_sleeves: bool
    long_hair: bool
    hat: Rgb | None
    skirt: bool
    jacket: Rgb | None
    stripes: Rgb | None
    emblem: Rgb | None
    backpack: Rgb | None

    @classmethod
    def from_seed(cls, upper: Rgb, style_seed: int) -> PersonStyle:
        """Draw the style from a seed."""
        rng = np.random.default_rng(style_seed)
        jeans = [
            (44, 58, 96),
            (70, 92, 132),
            (34, 34, 40),
            (92, 84, 72),
            (140, 128, 106),
            (60, 60, 66),
        ]
        lower: Rgb = (
            jeans[int(rng.integers(len(jeans)))]
            if rng.random() < 0.8
            else muted_colour(rng, 0.15, 0.7)
        )
        return cls(
            upper=upper,
            lower=shade(lower, float(rng.uniform(0.85, 1.1))),
            shoes=(225, 225, 225) if rng.random() < 0.3 else (38, 34, 32),
            skin=SKINS[int(rng.integers(len(SKINS)))],
            hair=HAIRS[int(rng.integers(len(HAIRS)))],
            build=float(rng.uniform(0.88, 1.2)),
            long_sleeves=bool(rng.random() < 0.65),
            long_hair=bool(rng.random() < 0.4),
            hat=muted_colour(rng, 0.1, 0.8) if rng.random() < 0.12 else None,
            skirt=bool(rng.random() < 0.12),
            stripes=shade(upper, 0.68) if rng.random() < 0.18 else None,
            emblem=mix(upper, (255, 255, 255), 0.6) if rng.random() < 0.2 else None,
            backpack=muted_colour(rng, 0.1, 0.6) if rng.random() < 0.12 else None,
            jacket=muted_colour(rng, 0.6, 0.97) if rng.random() < 0.3 else None,
        )
