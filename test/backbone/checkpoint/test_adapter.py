"""A LoRA directory is merged with its base as peft does it, or refused with the reason."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from model_fixtures import FAMILIES, write_checkpoint

from stream_vlm.backbone.checkpoint.loader import ARCHITECTURES, load_checkpoint
from stream_vlm.backbone.checkpoint.stream_config import CheckpointError
from stream_vlm.config.model_settings import ModelSettings


def load(directory: Path, **changes: Any) -> Any:
    return load_checkpoint(ModelSettings(directory=str(directory), device="cpu", **changes))


def open_plain(directory: Path, family: str) -> Any:
    return ARCHITECTURES[family].from_pretrained(directory, dtype=torch.float32)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def made(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and `adapter`, whose weights are random and not zero."""
    folder = tmp_path_factory.mktemp(family)
    base = write_checkpoint(folder / "base", layers=1, family=family)
    torch.manual_seed(1)
    adapted = peft.get_peft_model(
        open_plain(base, family),
        peft.LoraConfig(r=2, lora_alpha=4, target_modules=r".*language_model\..*\.(q|up)_proj"),
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.save_pretrained(str(folder / "adapter"))
    change(folder / "adapter", base_model_name_or_path=str(base))
    return folder


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> Path:
    """A copy of the adapter that a test may change."""
    return Path(shutil.copytree(made / "adapter", tmp_path / "adapter"))


def change(directory: Path, **values: object) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_merged_weights_are_those_of_peft(made: Path, family: str) -> None:
    base = open_plain(made / "base", family)
    before = {name: weight.clone() for name, weight in base.state_dict().items()}
    expected = (
        peft.PeftModel.from_pretrained(base, str(made / "adapter")).merge_and_unload().state_dict()
    )
    loaded = load(made / "adapter").model.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in loaded.items())
    assert any(not torch.equal(weight, before[name]) for name, weight in loaded.items())


def test_tokenizer_pictures_and_stream_are_those_of_the_base_and_the_id_is_its_own(
    made: Path,
) -> None:
    loaded, base = load(made / "adapter"), load(made / "base")
    assert (loaded.stream, loaded.pictures) == (base.stream, base.pictures)
    assert loaded.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert loaded.model_id != base.model_id


def test_files_in_the_directory_of_the_adapter_come_first(made: Path, adapter: Path) -> None:
    config = json.loads((made / "base" / "stream_config.json").read_text())
    (adapter / "stream_config.json").write_text(json.dumps(config | {"name": "mine"}))
    loaded = load(adapter)
    assert loaded.stream.name == "mine"
    assert loaded.pictures == load(made / "base").pictures


def test_a_base_is_found_beside_the_adapter(made: Path, adapter: Path) -> None:
    shutil.copytree(made / "base", adapter.parent / "base")
    change(adapter, base_model_name_or_path="base")
    assert load(adapter).stream.name == load(made / "base").stream.name


REFUSALS: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "a base of the hub",
        lambda d: change(d, base_model_name_or_path="Qwen/Qwen2.5-VL-3B-Instruct"),
        r"its base Qwen/Qwen2\.5-VL-3B-Instruct is not a folder here; download",
    ),
    ("no base", lambda d: change(d, base_model_name_or_path=None), "its base is not named"),
    ("another kind", lambda d: change(d, peft_type="PREFIX_TUNING"), "only LORA is loaded; merge"),
    (
        "pickle",
        lambda d: (d / "adapter_model.safetensors").rename(d / "adapter_model.bin"),
        r"adapter_model\.bin is pickle.*save_pretrained",
    ),
    (
        "no weights",
        lambda d: (d / "adapter_model.safetensors").unlink(),
        r"without adapter_model\.safetensors: copy it",
    ),
    (
        "damaged weights",
        lambda d: (d / "adapter_model.safetensors").write_bytes(b"\x08"),
        "is damaged.*download it again",
    ),
    (
        "no JSON",
        lambda d: (d / "adapter_config.json").write_text("{"),
        "cannot be read.*copy it again",
    ),
    ("another rank", lambda d: change(d, r=3), "does not fit its base"),
    (
        "other modules",
        lambda d: change(d, target_modules=r".*language_model\..*\.down_proj"),
        "does not fit its base",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "words"), [pytest.param(spoil, words, id=name) for name, spoil, words in REFUSALS]
)
def test_an_adapter_that_cannot_be_merged_is_refused_with_the_reason(
    adapter: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(adapter)
    with pytest.raises(CheckpointError, match=words):
        load(adapter)


def test_without_peft_one_sentence_says_what_to_install(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = builtins.__import__

    def without_peft(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "peft":
            raise ImportError("No module named 'peft'")
        return known(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    with pytest.raises(CheckpointError, match="pip install peft"):
        load(made / "adapter")


def test_an_adapter_is_not_merged_into_quantized_weights(made: Path) -> None:
    with pytest.raises(CheckpointError, match=r"leave model\.weights at auto"):
        load(made / "adapter", weights="int8")


def test_a_base_of_another_architecture_is_said(made: Path, adapter: Path) -> None:
    base = Path(shutil.copytree(made / "base", adapter.parent / "base"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    change(adapter, base_model_name_or_path=str(base))
    with pytest.raises(CheckpointError, match="architecture 'llava'; adapters are merged for"):
        load(adapter)
