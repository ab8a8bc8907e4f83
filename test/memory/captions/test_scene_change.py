"""A scene is new where a picture is much farther away than pictures of this camera usually are."""

from __future__ import annotations

import numpy as np
import pytest

from stream_vlm.memory.captions.scene_change import WARM_UP, SceneChange


def pictures(noise: float, scenes: list[int], size: int = 32) -> list[np.ndarray]:
    """A vector for each entry of `scenes`, near the direction of that scene."""
    generator = np.random.default_rng(0)
    found = []
    for scene in scenes:
        vector = np.eye(size, dtype=np.float32)[scene]
        vector = vector + noise * generator.normal(size=size).astype(np.float32)
        found.append((vector / np.linalg.norm(vector)).astype(np.float32))
    return found


def changes(vectors: list[np.ndarray]) -> list[int]:
    scene = SceneChange()
    return [number for number, vector in enumerate(vectors) if scene.is_new(vector)]


@pytest.mark.parametrize("noise", [1e-4, 1e-3, 1e-2])
def test_the_same_rule_finds_a_new_scene_for_any_spread_of_the_vectors(noise: float) -> None:
    assert changes(pictures(noise, [0] * 20 + [1] * 20 + [0] * 20)) == [20, 40]


def test_a_still_picture_is_never_new() -> None:
    assert changes(pictures(0.0, [0] * 50)) == []


def test_the_first_pictures_are_never_new() -> None:
    assert changes(pictures(0.001, [0, 1] * (WARM_UP // 2))) == []


def test_a_scene_that_moves_all_the_time_becomes_usual() -> None:
    found = changes(pictures(0.001, [0] * 20 + [0, 1] * 60))
    assert found[:2] == [21, 22]
    assert found[-1] < 100


def test_vectors_of_another_model_begin_anew() -> None:
    scene = SceneChange()
    for vector in pictures(0.001, [0] * 20):
        scene.is_new(vector)
    assert not scene.is_new(pictures(0.001, [1], size=16)[0])
