"""The turn format comes from the setting, from `stream_config.json`, or from the tokenizer."""

import json
from pathlib import Path

import pytest
from model_fixtures import random_frame, settings_for, step_alone, write_checkpoint
from trace_recording import write_streaming_vlm_checkpoint

from stream_vlm.backbone import load_cached_model
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.config.settings import describe_settings
from stream_vlm.context.turn_formats import FORMATS, HARNESS, PLAIN_TIME, STREAMO
from stream_vlm.types import Decision, State

MARKERS = ("</Silence>", "</Standby>", "</Response>")


def without_file(directory: Path, renamed: dict[str, str] | None = None) -> Path:
    """A checkpoint without a `stream_config.json`, as it is downloaded.

    Args:
        directory: where it is written.
        renamed: state markers to rename, new name by old name.
    """
    write_checkpoint(directory, words=("silence", "standby", "response", "yes", "no"))
    (directory / "stream_config.json").unlink()
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    for old, new in (renamed or {}).items():
        tokenizer["model"]["vocab"][new] = tokenizer["model"]["vocab"].pop(old)
        for token in tokenizer["added_tokens"]:
            token["content"] = new if token["content"] == old else token["content"]
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    return directory


def silent(decision: Decision) -> Decision:
    return Decision(State.SILENCE, decision.probabilities, confidence=decision.confidence)


def test_every_known_format_can_be_set() -> None:
    choices = next(
        info.choices for info in describe_settings() if info.name == "model.prompt_format"
    )
    assert set(choices) == {"auto", *FORMATS}


def test_a_streaming_vlm_download_needs_only_the_setting_and_no_file(tmp_path: Path) -> None:
    directory = write_streaming_vlm_checkpoint(tmp_path / "download", layers=2)
    before = sorted(path.name for path in directory.iterdir())
    assert "stream_config.json" not in before
    model = load_cached_model(settings_for(directory, model__prompt_format="streaming_vlm"))
    stream = model.checkpoint.stream
    assert (stream.temperature, stream.repetition_penalty) == (0.9, 1.05)
    assert (stream.name, stream.frames_per_turn, stream.policy, stream.rate_hz) == (
        "download",
        2,
        "sliding",
        2.0,
    )
    camera = model.open_stream("front")
    decisions = [step_alone(camera, random_frame(index), None, silent) for index in range(4)]
    assert [segment.turn for segment in camera.context if segment.grid] == [0, 1]
    assert sum(decisions[-1].probabilities.values()) == pytest.approx(1.0)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_a_tokenizer_with_streamos_markers_gets_streamos_format(tmp_path: Path) -> None:
    assert load_cached_model(settings_for(without_file(tmp_path))).parts.turns == STREAMO


def test_a_tokenizer_with_two_markers_gets_streaming_harness_format(tmp_path: Path) -> None:
    names = {"</Silence>": "</silence>", "</Response>": "</response>", "</Standby>": "<unused>"}
    model = load_cached_model(
        settings_for(without_file(tmp_path, names), context__max_seconds=4.0, stream__rate_hz=1.0)
    )
    assert model.parts.turns == HARNESS
    assert model.checkpoint.stream.policy == "chunked"
    camera = model.open_stream("front")
    decisions = [step_alone(camera, random_frame(2 * index), None, silent) for index in range(6)]
    assert all(decision.probabilities[State.STANDBY] == 0.0 for decision in decisions)
    # A chunk of four turns ended before the fifth.
    assert [segment.turn for segment in camera.context if segment.grid] == [4, 5]
    assert HARNESS.time.format(start=12, end=13) == "<12.0 seconds>\n"


@pytest.mark.parametrize("turns", ["streamo", "compact", "harness"])
def test_markers_that_are_not_tokens_are_named_in_the_error(tmp_path: Path, turns: str) -> None:
    directory = without_file(tmp_path, {marker: f"<unused {marker[2:-1]}>" for marker in MARKERS})
    with pytest.raises(
        CheckpointError,
        match=(
            f"model.prompt_format '{turns}': the tokenizer in .* has no </[Ss]ilence> as one token"
        ),
    ):
        load_cached_model(settings_for(directory, model__prompt_format=turns))


def test_the_setting_overrides_the_turns_of_the_file_and_keeps_the_rest(tmp_path: Path) -> None:
    words = ("silence", "standby", "response", "yes", "no")
    directory = write_checkpoint(tmp_path, words=words)
    written = load_cached_model(settings_for(directory)).checkpoint.stream
    chosen = load_cached_model(
        settings_for(directory, model__prompt_format="instruct")
    ).checkpoint.stream
    assert chosen.turns == FORMATS["instruct"].model_copy(update={"time": PLAIN_TIME})
    assert chosen.model_copy(update={"turns": written.turns}) == written


def test_a_setting_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path)
    with pytest.raises(
        CheckpointError,
        match=r"'streaming_vlm' contradicts .*pair_frames",
    ):
        load_cached_model(settings_for(directory, model__prompt_format="streaming_vlm"))


def test_qwen3s_pixel_budget_is_read_and_limited_to_128_vision_tokens(tmp_path: Path) -> None:
    directory = without_file(tmp_path)
    path = directory / "preprocessor_config.json"
    qwen3 = {
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | qwen3))
    pictures = load_cached_model(settings_for(directory)).checkpoint.pictures
    assert (pictures.patch_size, pictures.mean, pictures.std) == (
        16,
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    )
    assert (pictures.min_pixels, pictures.max_pixels) == (65536, 128 * 32 * 32)
    assert pictures.target_size(720, 1280) == (256, 480)
    assert pictures.target_size(60, 80) == (224, 320)


@pytest.mark.parametrize(("asked", "given"), [(64, 64), (128, 128), (300, 300), (16384, 400)])
def test_the_tokens_of_a_picture_are_those_of_the_setting_within_the_checkpoints_limit(
    tmp_path: Path, asked: int, given: int
) -> None:
    directory = without_file(tmp_path)
    path = directory / "preprocessor_config.json"
    limits = {"size": {"shortest_edge": 4096, "longest_edge": 400 * 32 * 32}}
    path.write_text(json.dumps(json.loads(path.read_text()) | limits))
    pictures = load_cached_model(
        settings_for(directory, vision__max_tokens=asked)
    ).checkpoint.pictures
    assert pictures.max_pixels == given * 32 * 32
    rows, columns = pictures.grid(*pictures.target_size(1080, 1920))
    assert 0.8 * given < rows * columns <= given
