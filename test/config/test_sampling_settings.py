"""How words are drawn: as the settings say, else as the model was published."""

from __future__ import annotations

import pytest

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import load_settings


def test_without_settings_words_are_drawn_as_published() -> None:
    sampling = load_settings({}).sampling
    drawn = sampling.or_published(0.9, 1.05)
    assert (drawn.temperature, drawn.repetition_penalty) == (0.9, 1.05)
    plain = sampling.or_published()
    assert (plain.temperature, plain.repetition_penalty) == (0.0, 1.0)


@pytest.mark.parametrize(("temperature", "penalty"), [(0.0, 1.0), (0.5, 1.2)])
def test_settings_come_before_published_values(temperature: float, penalty: float) -> None:
    sampling = load_settings(
        {"sampling.temperature": temperature, "sampling.repetition_penalty": penalty}
    ).sampling
    drawn = sampling.or_published(0.9, 1.05)
    assert (drawn.temperature, drawn.repetition_penalty) == (temperature, penalty)


def test_a_penalty_below_one_is_refused() -> None:
    with pytest.raises(SettingError, match="use 0 for the published value"):
        load_settings({"sampling.repetition_penalty": 0.5})
