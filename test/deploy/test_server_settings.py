"""Settings of a vLLM server: arguments, then environment, then defaults; wrong ones are named."""

from __future__ import annotations

import pytest
import yaml
from places import REPOSITORY
from server_settings import ServerSettings, WrongSetting, load_settings


def test_an_argument_goes_before_the_environment_and_that_before_the_default() -> None:
    environment = {"STREAM_VLM_SERVER_REPLICAS": "3", "STREAM_VLM_SERVER_GPUS": "2"}
    settings = load_settings({"replicas": "4"}, environment)
    assert (settings.replicas, settings.gpus) == (4, 2)
    assert settings.context_tokens == ServerSettings().context_tokens


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load_settings({}, {"STREAM_VLM_SERVER_REPLICAS": ""}) == ServerSettings()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"replica": 2}, "replica is no setting"),
        ({"replicas": "two"}, "replicas is 'two'; give a whole number"),
        ({"replicas": 0}, "replicas is 0; give at least 1"),
        ({"gpus": -1}, "gpus is -1; give at least 0"),
        ({"context_tokens": 100}, "give at least 1024"),
        ({"picture_cache_gb": 0}, "picture_cache_gb is 0.0; give more than 0"),
        ({"picture_cache_gb": "nan"}, "picture_cache_gb is nan"),
        ({"kv_cache_dtype": "int3"}, "kv_cache_dtype is 'int3'; give auto or fp8"),
        ({"model": ""}, "model is empty"),
        ({"engine": "fast"}, "engine is 'fast'; give names with values"),
        ({"engine": "[1]"}, "engine is '.1.'; give names with values"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_a_remedy(
    given: dict[str, object], words: str
) -> None:
    with pytest.raises(WrongSetting, match=words.replace("(", r"\(")):
        load_settings(given, {})


def test_the_model_is_served_by_its_own_name_unless_another_is_given() -> None:
    assert ServerSettings(model="/models/a").served_name == "/models/a"
    assert ServerSettings(model="/models/a", name="watcher").served_name == "watcher"


def test_more_arguments_of_the_engine_go_before_ours() -> None:
    environment = {"STREAM_VLM_SERVER_ENGINE": '{"max_logprobs": 60, "dtype": "float16"}'}
    arguments = load_settings({}, environment).engine_arguments()
    assert (arguments["max_logprobs"], arguments["dtype"]) == (60, "float16")
    assert load_settings({"engine": {"dtype": "half"}}, {}).engine_arguments()["dtype"] == "half"


def test_the_arguments_in_the_ray_file_are_settings() -> None:
    file = yaml.safe_load((REPOSITORY / "deploy/ray_serve.yaml").read_text(encoding="utf-8"))
    (one,) = file["applications"]
    assert one["import_path"] == "ray_serve:application"
    assert load_settings(one["args"], {}).replicas == one["args"]["replicas"]
