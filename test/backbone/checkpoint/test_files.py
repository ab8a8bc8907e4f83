"""What other programs save is loaded as transformers loads it, or refused with the real reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_fixtures import FAMILIES, write_checkpoint
from safetensors.torch import load_file, save_file

from stream_vlm.backbone.checkpoint.files import INDEX, WHOLE_FILE
from stream_vlm.backbone.checkpoint.loader import load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.config.model_settings import ModelSettings


def load(directory: Path, **changes: Any) -> Any:
    return load_checkpoint(ModelSettings(directory=str(directory), **changes))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def saved(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(family) / "saved", layers=1, family=family)


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "saved"))


def nest(directory: Path, part: str) -> None:
    """Save the picture configuration as transformers 5 does."""
    values = json.loads((directory / "preprocessor_config.json").read_text())
    document = {part: values, "processor_class": "Qwen2_5_VLProcessor"}
    (directory / "processor_config.json").write_text(json.dumps(document))


@pytest.mark.parametrize("part", ["image_processor", "video_processor"])
def test_processor_config_alone_gives_the_same_pictures(
    directory: Path, saved: Path, part: str
) -> None:
    nest(directory, part)
    (directory / "preprocessor_config.json").unlink()
    assert load(directory).pictures == load(saved).pictures


def test_preprocessor_config_counts_where_both_are_there(directory: Path, saved: Path) -> None:
    nest(directory, "image_processor")
    document = json.loads((directory / "processor_config.json").read_text())
    document["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    (directory / "processor_config.json").write_text(json.dumps(document))
    assert load(directory).pictures == load(saved).pictures


def test_without_any_picture_configuration_both_files_are_named(directory: Path) -> None:
    (directory / "preprocessor_config.json").unlink()
    (directory / "processor_config.json").write_text('{"processor_class": "Qwen2_5_VLProcessor"}')
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json.*processor_config\.json"):
        load(directory)


def test_a_byte_order_mark_in_the_configuration_is_no_content(directory: Path, saved: Path) -> None:
    for name in ("preprocessor_config.json", "stream_config.json"):
        path = directory / name
        if path.is_file():
            path.write_text(path.read_text(), encoding="utf-8-sig")
    loaded, expected = load(directory), load(saved)
    assert (loaded.pictures, loaded.stream) == (expected.pictures, expected.stream)


def test_an_index_left_beside_a_whole_file_is_not_followed(directory: Path, saved: Path) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (directory / INDEX).write_text(json.dumps(index))
    loaded, expected = load(directory), load(saved)
    assert loaded.model_id == expected.model_id
    weights = expected.model.state_dict()
    assert all(torch.equal(v, weights[name]) for name, v in loaded.model.state_dict().items())


def test_a_missing_shard_is_named_with_its_index(directory: Path) -> None:
    (directory / WHOLE_FILE).rename(directory / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (directory / INDEX).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(
        CheckpointError, match=rf"model-00002-of-00002\.safetensors is missing.*{INDEX}"
    ):
        load(directory)


def test_embeddings_tied_in_the_text_config_only_need_no_head(directory: Path) -> None:
    weights = load_file(directory / WHOLE_FILE)
    del weights["lm_head.weight"]
    save_file(weights, directory / WHOLE_FILE, metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    config["text_config"]["tie_word_embeddings"] = True
    (directory / "config.json").write_text(json.dumps(config))
    model = load(directory).model
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_a_head_that_is_missing_and_not_tied_is_still_a_fault(directory: Path) -> None:
    weights = load_file(directory / WHOLE_FILE)
    del weights["lm_head.weight"]
    save_file(weights, directory / WHOLE_FILE, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing, such as lm_head"):
        load(directory)


def without_weights(directory: Path, name: str) -> None:
    (directory / WHOLE_FILE).unlink()
    (directory / name).write_bytes(b"\x80\x02")


REFUSALS: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "pickle",
        lambda d: without_weights(d, "pytorch_model.bin"),
        r"pytorch_model\.bin is pickle, which can run code.*safetensors.*save_pretrained",
    ),
    ("pt", lambda d: without_weights(d, "model.pt"), r"model\.pt is pickle.*save_pretrained"),
    ("gguf", lambda d: without_weights(d, "q4.gguf"), r"q4\.gguf is GGUF.*safetensors only"),
    (
        "other name",
        lambda d: (d / WHOLE_FILE).rename(d / "fused.safetensors"),
        r"fused\.safetensors.*rename the file",
    ),
    (
        "arguments of a training",
        lambda d: without_weights(d, "training_args.bin"),
        "incomplete, download it again",
    ),
    (
        "pointer of Git LFS",
        lambda d: (d / WHOLE_FILE).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    ("empty file", lambda d: (d / WHOLE_FILE).write_bytes(b""), "is damaged.*download it again"),
]


@pytest.mark.parametrize(
    ("change", "words"), [pytest.param(change, words, id=name) for name, change, words in REFUSALS]
)
def test_weights_that_are_not_read_are_refused_with_the_reason_and_the_remedy(
    directory: Path, change: Callable[[Path], object], words: str
) -> None:
    change(directory)
    with pytest.raises(CheckpointError, match=words):
        load(directory)


def test_a_file_in_place_of_the_directory_is_said(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file; give the directory that holds it"):
        load(directory / WHOLE_FILE)


HARDWARE: list[tuple[Exception, str]] = [
    (RuntimeError("No GPU found. A GPU is needed for quantization."), "No GPU found"),
    (ValueError("dtype float8_e4m3fn is not supported on this device"), "float8_e4m3fn"),
    (RuntimeError("CUDA error: no kernel image is available"), "this build of PyTorch"),
    (MemoryError(), "does not fit into this computer's memory"),
    (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        "does not fit into this computer's memory",
    ),
    (torch.OutOfMemoryError("CUDA out of memory"), "does not fit into the GPU's memory"),
    (ImportError("flash_attn is not installed"), "flash_attn"),
    (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
    (NotImplementedError("no kernel for Half"), "no kernel for Half"),
]


@pytest.mark.parametrize(("error", "words"), HARDWARE, ids=lambda value: type(value).__name__)
def test_a_fault_of_the_computer_is_not_blamed_on_the_files(
    saved: Path, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", fail)
    with pytest.raises(CheckpointError, match=words) as caught:
        load(saved)
    assert "download" not in str(caught.value)


def test_weights_of_another_shape_are_a_fault_of_the_files(directory: Path) -> None:
    weights = load_file(directory / WHOLE_FILE)
    weights["lm_head.weight"] = weights["lm_head.weight"][:5].clone()
    save_file(weights, directory / WHOLE_FILE, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"contradict each other.*download"):
        load(directory)
