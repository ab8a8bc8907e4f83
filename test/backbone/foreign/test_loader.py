"""Checkpoints of other architectures: which are loaded, and which are refused with a reason."""

import importlib.util
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from foreign_fixtures import (
    CHAT,
    NO_SYSTEM_CHAT,
    PICTURES_FIRST_CHAT,
    QUESTION,
    change_config,
    load,
    take,
    watch,
    write_foreign,
)
from model_fixtures import random_frame, settings_for, write_checkpoint

from stream_vlm.backbone import RecomputingModel, StreamingModel, load_model
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.cli import main
from stream_vlm.context.instructions import SYSTEM


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foreign(tmp_path_factory.mktemp("llava"))


@pytest.mark.parametrize("chat", [NO_SYSTEM_CHAT, PICTURES_FIRST_CHAT])
def test_a_template_without_a_system_role_or_with_pictures_first_works(
    tmp_path: Path, chat: str
) -> None:
    model = load(write_foreign(tmp_path, chat=chat))
    written = model.checkpoint.writer.write(["<0 s>\n", "<1 s>\n"], "", "is the door open ?")
    assert SYSTEM in written
    assert "is the door open ?" in written
    assert written.count("<image>") == 2
    assert take(model, model.open_stream("front"), random_frame(0), query=QUESTION).decision.text


def _without_template(directory: Path) -> None:
    (directory / "chat_template.jinja").unlink()
    change_config(directory / "tokenizer_config.json", chat_template=None)


def _template_without_content(directory: Path) -> None:
    (directory / "chat_template.jinja").write_text("<turn>assistant ")


def _same_beginnings(directory: Path) -> None:
    content = (directory / "tokenizer.json").read_text().replace('"Standby"', '"Stand"')
    (directory / "tokenizer.json").write_text(content)


def _no_pictures(directory: Path) -> None:
    (directory / "processor_config.json").unlink()


def _missing_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def _fewer_weights(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (directory / "config.json").write_text(json.dumps(config))


def _text_only(directory: Path) -> None:
    change_config(directory / "config.json", model_type="llama", architectures=["LlamaForCausalLM"])


def _unknown_architecture(directory: Path) -> None:
    change_config(directory / "config.json", model_type="no_such_model")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_template, "has no chat template"),
        (_template_without_content, "chat template cannot express"),
        (_same_beginnings, "do not begin with different tokens"),
        (_no_pictures, "processor"),
        (_missing_weights, "model.safetensors is missing"),
        (_fewer_weights, "weights are missing"),
        (_text_only, "'llama' is not supported"),
        (_unknown_architecture, "no_such_model"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_refused_by_name(
    llava: Path, tmp_path: Path, damage: Any, message: str
) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(llava, directory)
    damage(directory)
    with pytest.raises(CheckpointError, match=message) as refused:
        load_model(settings_for(directory))
    assert str(directory) in str(refused.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("prompt_format", "streamo"),
        ("weights", "int4"),
        ("device", "split"),
    ],
)
def test_settings_for_the_qwen_family_only_are_refused(
    llava: Path, setting: str, value: str
) -> None:
    with pytest.raises(
        CheckpointError, match=f"model.{setting} '{value}': not possible .*'llava'; set it to auto"
    ):
        load_model(settings_for(llava, **{f"model__{setting}": value}))


@pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed"
)
def test_a_processor_that_needs_torchvision_says_so_with_the_remedy(
    llava: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "checkpoint"
    shutil.copytree(llava, directory)
    for file in ("processor_config.json", "tokenizer_config.json"):
        change_config(directory / file, processor_class="PixtralProcessor")
    with pytest.raises(
        CheckpointError,
        match=r"needs torchvision.*PixtralProcessor.*pip install --no-deps torchvision",
    ):
        load_model(settings_for(directory))


def _engine_of_doctor(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main(["doctor", "--model", str(directory), "--memory", str(tmp_path / "memory.db")])
    return next(line for line in capsys.readouterr().out.splitlines() if line.split()[1] == "model")


def test_the_log_and_the_doctor_say_how_the_context_is_computed(
    llava: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO, logger="stream_vlm"):
        model = load(llava)
        watch(model, model.open_stream("front"), [random_frame(index) for index in range(3)])
    assert [
        record.getMessage() for record in caplog.records if "context" in record.getMessage()
    ] == [f"{model.model_id}: {model.engine}"]
    assert model.engine == "llava: context kept in its own cache between ticks"
    finding = _engine_of_doctor(llava, tmp_path, capsys)
    assert finding.startswith("ok")
    assert model.engine in finding
    cached = load_model(settings_for(write_checkpoint(tmp_path / "cached")))
    assert isinstance(cached, StreamingModel)
    assert "kept in a cache" in cached.engine


@pytest.mark.parametrize(
    ("architecture", "chat", "settings", "reason"),
    [
        ("paligemma", CHAT, {}, "its attention goes in both directions"),
        ("llava", PICTURES_FIRST_CHAT, {}, "its chat template cannot be split"),
        ("llava", CHAT, {"context__recompute": True}, "recomputed at every tick"),
        ("llava", CHAT, {"context__policy": "last_frames"}, "recomputed at every tick"),
    ],
)
def test_pictures_are_recomputed_where_the_cache_cannot_be_kept_and_the_log_says_why(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    architecture: str,
    chat: str,
    settings: dict[str, Any],
    reason: str,
) -> None:
    with caplog.at_level(logging.WARNING, logger="stream_vlm"):
        model = load(write_foreign(tmp_path, architecture, chat=chat), **settings)
    assert isinstance(model, RecomputingModel)
    assert reason in model.engine
    assert [record.getMessage() for record in caplog.records] == [
        f"{model.model_id}: {model.engine}"
    ]


def test_pieces_of_a_turn_format_are_refused_because_the_template_writes_the_turns(
    llava: Path,
) -> None:
    with pytest.raises(CheckpointError, match=r"model\.turn_pieces: not possible .*chat template"):
        load_model(settings_for(llava, model__turn_pieces=["time=<{start}s>"]))


@pytest.mark.parametrize("policy", ["last_turns", "sliding"])
def test_a_policy_that_needs_the_slot_cache_is_refused(llava: Path, policy: str) -> None:
    with pytest.raises(CheckpointError, match=f"context.policy '{policy}'.*chunked or last_frames"):
        load_model(settings_for(llava, context__policy=policy))
