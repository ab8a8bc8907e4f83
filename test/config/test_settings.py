"""Every setting once, with unit, range and a sentence; nonsense is refused by name."""

import math

import pytest

from stream_vlm.config.field import SettingError
from stream_vlm.config.settings import describe_settings, load_settings


def test_every_setting_has_a_description_and_every_number_a_range() -> None:
    for info in describe_settings(["front"]):
        assert info.description.endswith("."), info.name
        if info.kind in (int, float):
            assert info.minimum is not None, info.name
            assert info.maximum is not None, info.name
            assert info.minimum <= info.default <= info.maximum, info.name


def test_described_names_and_accepted_names_are_the_same() -> None:
    values = {info.name: info.default for info in describe_settings(["front"])} | {
        "cameras": ["front"]
    }
    settings = load_settings(values)
    assert settings.camera["front"].topic == "image_raw"
    assert settings == load_settings({"cameras": ["front"]})


def test_every_named_camera_gets_its_group() -> None:
    settings = load_settings({"cameras": ["front", "rear"], "camera.rear.transport": "compressed"})
    assert settings.camera["front"].transport == "raw"
    assert settings.camera["rear"].transport == "compressed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stream.rate_hz": 1000.0}, "stream.rate_hz: 1000.0 is refused"),
        ({"stream.rate_hz": math.nan}, "stream.rate_hz: nan is refused"),
        ({"stream.rate_hz": "fast"}, "stream.rate_hz: 'fast' is refused"),
        ({"stream.rate": 1.0}, "stream.rate: no such setting"),
        ({"model.device": "tpu"}, "model.device: 'tpu' is refused"),
        ({"cameras": []}, "cameras"),
        ({"cameras": ["a b"]}, "'a b' is refused"),
        ({"cameras": ["a", "a"]}, "names a camera twice"),
        ({"camera.rear.topic": "x"}, "camera.rear: no such camera"),
        ({"stream": 3}, "stream: 3 is refused"),
        ({"stream": 3, "stream.rate_hz": 1.0}, "is a setting, not a group"),
    ],
)
def test_nonsense_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_settings(values)


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(SettingError, match=r"stream\.rate_hz.*memory\.thumbnail_quality"):
        load_settings({"stream.rate_hz": 0.05, "memory.thumbnail_quality": 500})
