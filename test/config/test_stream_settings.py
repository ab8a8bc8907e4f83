"""The tick rate is the checkpoint's own unless the user sets one."""

from __future__ import annotations

import pytest

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import describe_settings, load_settings, with_cameras


def test_the_default_is_the_rate_that_the_model_was_trained_with() -> None:
    settings = load_settings({})
    assert settings.stream.rate_hz == 0.0
    settings.stream.take_own_rate(4.0)
    assert settings.stream.tick_rate_hz == 4.0


def test_a_model_that_is_no_checkpoint_and_names_no_rate_runs_at_2_hz() -> None:
    assert load_settings({}).stream.tick_rate_hz == 2.0


def test_a_rate_that_is_set_wins_and_0_goes_back_to_the_models_own() -> None:
    settings = load_settings({"stream.rate_hz": 3.0})
    settings.stream.take_own_rate(2.0)
    assert settings.stream.tick_rate_hz == 3.0
    settings.stream.rate_hz = 0.0
    assert settings.stream.tick_rate_hz == 2.0


def test_settings_for_other_cameras_keep_the_models_rate() -> None:
    settings = load_settings({})
    settings.stream.take_own_rate(2.0)
    assert with_cameras(settings, ["front"]).stream.tick_rate_hz == 2.0


@pytest.mark.parametrize("rate_hz", [0.05, 1e-9, -1.0, 31.0])
def test_other_rates_are_refused_with_the_rule(rate_hz: float) -> None:
    with pytest.raises(SettingError, match=r"stream\.rate_hz"):
        load_settings({"stream.rate_hz": rate_hz})


def test_the_description_says_what_0_means() -> None:
    info = next(info for info in describe_settings() if info.name == "stream.rate_hz")
    assert (info.default, info.minimum, info.maximum) == (0.0, 0.0, 30.0)
    assert "0 takes the rate that the checkpoint was trained with" in info.description
